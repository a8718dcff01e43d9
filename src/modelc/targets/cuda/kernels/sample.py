"""Sampling, last: each row's token.

Tokens stand in order, the likeliest first. Top-k, top-p and the draw each ask for the first token
up to which that order counts, or weighs, more than some target. The bin in which it lies is found
in the cumulated bins, the token by bisection of the bin's ranks: a step looks at what lies above
the middle, and moves to the nearest token there or below. So it ends, whatever the logits are.
"""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.sampling_order import (
    LARGEST,
    distances,
    id_of,
    ranks_of,
    standing,
    weights_of,
)

HIGHEST = tl.constexpr(2**63 - 1)
LOWEST = tl.constexpr(1 - 2**63)


@triton.jit
def divide(
    logits, penalty, seen, row, group, number, peak, warmth, middle,
    vocab: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of a bin's tokens: how many have rank `middle` or more, what these weigh, the least rank of
    these, and the greatest below."""
    count = tl.full([], 0, tl.int64)
    weight = tl.full([], 0, tl.int64)
    least = tl.full([], HIGHEST, tl.int64)
    greatest = tl.full([], LOWEST, tl.int64)
    for start in range(0, number, BLOCK):
        lanes = start + tl.arange(0, BLOCK)
        inside = lanes < number
        ids = tl.load(group + lanes, mask=inside, other=0)
        values = standing(logits, penalty, seen, row, ids, inside, vocab)
        ranks = ranks_of(values, ids)
        above = inside & (ranks >= middle)
        below = inside & (ranks < middle)
        weights = weights_of(distances(values, peak, warmth))
        count += tl.sum(above.to(tl.int64), 0)
        weight += tl.sum(tl.where(above, weights, 0), 0)
        least = tl.minimum(least, tl.min(tl.where(above, ranks, HIGHEST), 0))
        greatest = tl.maximum(greatest, tl.max(tl.where(below, ranks, LOWEST), 0))
    return count, weight, least, greatest


@triton.jit
def cross(
    logits, penalty, seen, row, grouped, numbers, weights, peak, warmth, target,
    by_count: tl.constexpr, vocab: tl.constexpr, bins: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The first token up to which tokens count (or weigh) more than `target`, and what they weigh
    up to it."""
    measures = numbers.to(tl.int64) if by_count else weights
    places = tl.arange(0, bins)
    bin = tl.sum((tl.cumsum(measures, 0) <= target).to(tl.int32), 0)
    passed = places < bin
    rest = target - tl.sum(tl.where(passed, measures, 0), 0)
    number = tl.sum(tl.where(places == bin, numbers, 0), 0)
    group = grouped + row * vocab + tl.sum(tl.where(passed, numbers, 0), 0)

    _, weight, low, _ = divide(
        logits, penalty, seen, row, group, number, peak, warmth, LOWEST, vocab, BLOCK
    )
    high = tl.full([], HIGHEST, tl.int64)
    while low < high:
        middle = (low | high) - ((low ^ high) >> 1)  # their mean, rounded up, without overflow
        count, mass, least, greatest = divide(
            logits, penalty, seen, row, group, number, peak, warmth, middle, vocab, BLOCK
        )
        beyond = (count if by_count else mass) > rest
        weight = tl.where(beyond, mass, weight)
        low = tl.where(beyond, least, low)
        high = tl.where(beyond, high, greatest)
    return id_of(low), tl.sum(tl.where(passed, weights, 0), 0) + weight


@triton.jit
def sample(
    logits, penalty, seen, temperature, top_k, top_p, draw,
    part_peak, part_token, counts, weights, grouped, chosen,
    vocab: tl.constexpr, part: tl.constexpr, bins: tl.constexpr,
    PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    count: tl.constexpr = (vocab + part - 1) // part
    parts = tl.arange(0, PARTS)
    peaks = tl.load(part_peak + row * count + parts, mask=parts < count, other=-2.0 * LARGEST)
    tokens = tl.load(part_token + row * count + parts, mask=parts < count, other=vocab)
    peak = tl.max(peaks, 0)
    token = tl.min(tl.where(peaks == peak, tokens, vocab), 0)
    if draw is not None:
        warmth = tl.load(temperature + row)
        if warmth > 0.0:
            places = row * bins + tl.arange(0, bins)
            number = tl.load(counts + places)
            weight = tl.load(weights + places)
            kept = tl.sum(weight, 0)
            if top_k is not None:
                k = tl.load(top_k + row)
                if (k > 0) & (k < tl.sum(number, 0)):
                    _, kept = cross(
                        logits, penalty, seen, row, grouped, number, weight, peak, warmth,
                        k.to(tl.int64) - 1, True, vocab, bins, BLOCK,
                    )  # fmt: skip
            if top_p is not None:
                share = tl.load(top_p + row)
                if share < 1.0:
                    least = tl.ceil(share.to(tl.float64) * kept.to(tl.float64)).to(tl.int64)
                    _, kept = cross(
                        logits, penalty, seen, row, grouped, number, weight, peak, warmth,
                        tl.maximum(least - 1, 0), False, vocab, bins, BLOCK,
                    )  # fmt: skip
            target = (tl.load(draw + row).to(tl.float64) * kept.to(tl.float64)).to(tl.int64)
            token, _ = cross(
                logits, penalty, seen, row, grouped, number, weight, peak, warmth,
                tl.minimum(tl.maximum(target, 0), kept - 1), False, vocab, bins, BLOCK,
            )  # fmt: skip
    tl.store(chosen + row, token)

"""Chooses experts for each token: softmax over all of them, the `used` largest, their shares."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def route(
    logits, ids, shares,
    experts: tl.constexpr, used: tl.constexpr, normalise: tl.constexpr,
    EXPERTS: tl.constexpr, USED: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    expert = tl.arange(0, EXPERTS)
    choice = tl.arange(0, USED)
    lowest = float("-inf")
    values = tl.load(logits + token * experts + expert, mask=expert < experts, other=lowest)
    powers = tl.exp(values - tl.max(values, 0))
    probabilities = powers / tl.sum(powers, 0)

    # NaN counts as the lowest here, so that every round finds an expert that is still free.
    rank = tl.where(values == values, values, lowest)
    free = expert < experts
    chosen = tl.zeros((USED,), tl.int32)
    parts = tl.zeros((USED,), tl.float32)
    for place in tl.static_range(used):
        largest = tl.max(tl.where(free, rank, lowest), 0)
        best = tl.min(tl.where(free & (rank == largest), expert, EXPERTS), 0)
        chosen = tl.where(choice == place, best, chosen)
        part = tl.sum(tl.where(expert == best, probabilities, 0.0), 0)
        parts = tl.where(choice == place, part, parts)
        free = free & (expert != best)
    if normalise:
        parts = parts / tl.sum(parts, 0)
    tl.store(ids + token * used + choice, chosen, mask=choice < used)
    tl.store(shares + token * used + choice, parts, mask=choice < used)

"""Sampling, third: the ids of each bin side by side, bin after bin; in a bin in any order."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.sampling_order import (
    bins_of,
    distances,
    row_peak,
    standing,
    weights_of,
)


@triton.jit
def sample_groups(
    logits, penalty, seen, temperature, part_peak, counts, filled, grouped,
    vocab: tl.constexpr, part: tl.constexpr, bins: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    warmth = tl.load(temperature + row)
    if warmth > 0.0:
        ids = tl.program_id(1) * part + tl.arange(0, part)
        inside = ids < vocab
        values = standing(logits, penalty, seen, row, ids, inside, vocab)
        distance = distances(values, row_peak(part_peak, row, vocab, part, PARTS), warmth)
        counted = inside & (weights_of(distance) > 0)
        bin = bins_of(distance, bins)
        numbers = tl.load(counts + row * bins + tl.arange(0, bins))
        starts = tl.cumsum(numbers, 0) - numbers
        ticket = tl.atomic_add(filled + row * bins + bin, 1, mask=counted, sem="relaxed")
        places = row * vocab + tl.gather(starts, bin, 0) + ticket
        tl.store(grouped + places, ids, mask=counted)

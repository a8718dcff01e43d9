"""Sampling, second: how many tokens each bin holds, and what they weigh together."""

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
def sample_bins(
    logits, penalty, seen, temperature, part_peak, counts, weights,
    vocab: tl.constexpr, part: tl.constexpr, bins: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    warmth = tl.load(temperature + row)
    if warmth > 0.0:
        ids = tl.program_id(1) * part + tl.arange(0, part)
        inside = ids < vocab
        values = standing(logits, penalty, seen, row, ids, inside, vocab)
        distance = distances(values, row_peak(part_peak, row, vocab, part, PARTS), warmth)
        weight = weights_of(distance)
        counted = inside & (weight > 0)
        places = row * bins + bins_of(distance, bins)
        tl.atomic_add(counts + places, 1, mask=counted, sem="relaxed")
        tl.atomic_add(weights + places, weight, mask=counted, sem="relaxed")

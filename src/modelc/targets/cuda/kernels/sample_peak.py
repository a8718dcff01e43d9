"""Sampling, first: the likeliest token of each part of a row; empty bins for what follows."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.sampling_order import standing


@triton.jit
def sample_peak(
    logits, penalty, seen, part_peak, part_token, counts, weights, filled,
    vocab: tl.constexpr, part: tl.constexpr, bins: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    which = tl.program_id(1)
    ids = which * part + tl.arange(0, part)
    inside = ids < vocab
    values = standing(logits, penalty, seen, row, ids, inside, vocab)
    peak = tl.max(tl.where(inside, values, -float("inf")), 0)
    token = tl.min(tl.where(inside & (values == peak), ids, vocab), 0)
    place = row * tl.num_programs(1) + which
    tl.store(part_peak + place, peak)
    tl.store(part_token + place, token)
    if counts is not None and which == 0:
        places = row * bins + tl.arange(0, bins)
        tl.store(counts + places, tl.zeros([bins], tl.int32))
        tl.store(filled + places, tl.zeros([bins], tl.int32))
        tl.store(weights + places, tl.zeros([bins], tl.int64))

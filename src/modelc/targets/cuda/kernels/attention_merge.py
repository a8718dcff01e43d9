"""Joins what the splits of `attention_decode` found."""

from __future__ import annotations

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e30)
"""Taken for the greatest score of sequences that have none, whose weights so are 0, not NaN."""


@triton.jit
def attention_merge(
    partial, stats, out,
    heads: tl.constexpr, head_dim: tl.constexpr, splits: tl.constexpr,
    BLOCK_S: tl.constexpr, BLOCK_D: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * heads + tl.program_id(1)
    each = tl.arange(0, SPLITS)
    highest = tl.load(stats + (row * splits + each) * 2, mask=each < splits, other=float("-inf"))
    top = tl.maximum(tl.max(highest, 0), LOWEST)
    columns = tl.arange(0, BLOCK_D)
    sums = tl.zeros((BLOCK_D,), tl.float32)
    total = 0.0
    for first in range(0, splits, BLOCK_S):
        split = first + tl.arange(0, BLOCK_S)
        place = row * splits + split
        there = split < splits
        tops = tl.load(stats + place * 2, mask=there, other=float("-inf"))
        weight = tl.exp2(tops - top)
        totals = tl.load(stats + place * 2 + 1, mask=there, other=0.0)
        inside = there[:, None] & (columns < head_dim)[None, :]
        parts = tl.load(
            partial + place[:, None] * head_dim + columns[None, :], mask=inside, other=0.0
        )
        sums += tl.sum(parts * weight[:, None], 0)
        total += tl.sum(totals * weight, 0)
    mean = sums / tl.where(total > 0, total, 1.0)
    tl.store(out + row * head_dim + columns, mean.to(out.dtype.element_ty), mask=columns < head_dim)

"""Adds what a token's experts gave, each by its share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def combine(
    y, shares, out, used: tl.constexpr, width: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    total = tl.zeros((BLOCK,), tl.float32)
    for choice in tl.static_range(used):
        pair = token * used + choice
        part = tl.load(y + pair * width + column, mask=inside, other=0.0).to(tl.float32)
        total += tl.load(shares + pair) * part
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=inside)

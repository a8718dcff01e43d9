"""Logits kept below a cap: cap * tanh(x / cap)."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def softcap(logits, width: tl.constexpr, cap: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * width
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(logits + start + columns, mask=inside, other=0.0)
    tanh = 2.0 * tl.sigmoid(values * (2.0 / cap)) - 1.0
    tl.store(logits + start + columns, cap * tanh, mask=inside)

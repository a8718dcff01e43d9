"""The rows of tokens whose logits are wanted; zeros where there is no such token."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def select_rows(x, wanted, out, tokens, width: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    token = tl.load(wanted + row).to(tl.int64)
    known = (token >= 0) & (token < tokens)
    values = tl.load(x + token * width + columns, mask=inside & known, other=0.0)
    tl.store(out + row * width + columns, values, mask=inside)

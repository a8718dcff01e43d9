"""x + y."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add(x, y, out, width: tl.constexpr, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * width
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    left = tl.load(x + start + columns, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(y + start + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + start + columns, (left + right).to(out.dtype.element_ty), mask=inside)

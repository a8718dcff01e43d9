"""x + sigmoid(gate) * y, with one gate for each token: a shared expert's part."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_gated(x, y, gate, out, width: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    share = tl.sigmoid(tl.load(gate + token).to(tl.float32))
    left = tl.load(x + token * width + columns, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(y + token * width + columns, mask=inside, other=0.0).to(tl.float32)
    total = left + share * right
    tl.store(out + token * width + columns, total.to(out.dtype.element_ty), mask=inside)

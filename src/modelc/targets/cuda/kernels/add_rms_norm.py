"""The residual stream's next value, x + residual, and its RMS norm for each token."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_rms_norm(
    x, residual, weight, total, out,
    width: tl.constexpr, epsilon: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * width
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    added = tl.load(x + start + columns, mask=inside, other=0.0).to(tl.float32)
    added += tl.load(residual + start + columns, mask=inside, other=0.0).to(tl.float32)
    rounded = added.to(total.dtype.element_ty)
    tl.store(total + start + columns, rounded, mask=inside)
    values = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / width + epsilon)
    gain = tl.load(weight + columns, mask=inside, other=0.0)
    normed = values * scale * gain
    tl.store(out + start + columns, normed.to(out.dtype.element_ty), mask=inside)

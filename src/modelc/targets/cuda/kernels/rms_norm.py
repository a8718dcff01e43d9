"""RMS norm of each token: x / rms(x) * weight."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rms_norm(
    x, weight, out, width: tl.constexpr, epsilon: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    values = tl.load(x + token * width + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / width + epsilon)
    gain = tl.load(weight + columns, mask=inside, other=0.0)
    normed = values * scale * gain
    tl.store(out + token * width + columns, normed.to(out.dtype.element_ty), mask=inside)

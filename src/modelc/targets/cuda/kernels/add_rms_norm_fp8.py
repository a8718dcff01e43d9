"""x + residual, and its RMS norm in e4m3, with a scale for each group of columns."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.e4m3_groups import store_groups


@triton.jit
def add_rms_norm_fp8(
    x, residual, weight, total, static_scale, out, codes, scales,
    width: tl.constexpr, epsilon: tl.constexpr, group: tl.constexpr,
    GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    tl.static_assert(width % group == 0, "groups must fill the width")
    token = tl.program_id(0).to(tl.int64)
    places = tl.arange(0, BLOCK)[None, :]
    columns = tl.arange(0, GROUPS)[:, None] * group + places
    inside = (places < group) & (columns < width)
    offsets = token * width + columns
    added = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
    added += tl.load(residual + offsets, mask=inside, other=0.0).to(tl.float32)
    rounded = added.to(total.dtype.element_ty)
    tl.store(total + offsets, rounded, mask=inside)
    values = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values) / width + epsilon)
    gain = tl.load(weight + columns, mask=inside, other=0.0)
    normed = (values * scale * gain).to(total.dtype.element_ty)
    if out is not None:
        tl.store(out + offsets, normed, mask=inside)
    store_groups(
        normed.to(tl.float32), offsets, inside, token, static_scale, codes, scales,
        width, group, GROUPS,
    )  # fmt: skip

"""Activations in e4m3, with a scale for each group of a token's values."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def quantise_fp8(
    x, static_scale, out, scales,
    width: tl.constexpr, group: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """GROUPS groups at a time; BLOCK is the least power of two that holds one."""
    token = tl.program_id(0).to(tl.int64)
    groups = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    within = tl.arange(0, BLOCK)[None, :]
    columns = groups[:, None] * group + within
    inside = (within < group) & (columns < width)
    values = tl.load(x + token * width + columns, mask=inside, other=0.0).to(tl.float32)
    if static_scale is not None:
        scale = tl.zeros((GROUPS,), tl.float32) + tl.load(static_scale)
    else:
        largest = tl.max(tl.abs(values), 1)
        scale = tl.where(largest > 0.0, largest / 448.0, 1.0)
    codes = tl.clamp(values / scale[:, None], -448.0, 448.0)
    tl.store(out + token * width + columns, codes.to(out.dtype.element_ty), mask=inside)
    COUNT: tl.constexpr = (width + group - 1) // group
    tl.store(scales + token * COUNT + groups, scale, mask=groups < COUNT)

"""Codes in e4m3 that share a scale in groups of columns."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def store_groups(
    values, offsets, inside, token, static_scale, codes, scales,
    width: tl.constexpr, group: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """Store float32 values [GROUPS, BLOCK] as codes at `offsets`, and a token's scales.

    A group's scale is its largest magnitude / 448 (1 where that is 0), or the static one.
    """
    if static_scale is not None:
        quotients = values / tl.load(static_scale)
    else:
        largest = tl.max(tl.abs(values), 1)
        steps = tl.where(largest > 0.0, largest / 448.0, 1.0)
        quotients = values / steps[:, None]
        groups = tl.arange(0, GROUPS)
        count = width // group
        tl.store(scales + token * count + groups, steps, mask=groups < count)
    # A conversion need not saturate, and 448 is the largest code; NaN stays what it is.
    clamped = tl.clamp(quotients, -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(codes + offsets, clamped.to(codes.dtype.element_ty), mask=inside)

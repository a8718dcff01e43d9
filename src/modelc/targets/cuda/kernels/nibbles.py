"""Weights of 4 bits: two codes in a byte, groups of inputs with a scale and a zero point."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_scales(scales, zeros, at):
    """Return float32 scales and zero points; `zeros` may be None: then all are 8."""
    scale = tl.load(scales + at).to(tl.float32)
    if zeros is not None:
        zero = tl.load(zeros + at).to(tl.float32)
    else:
        zero = tl.full(scale.shape, 8.0, tl.float32)
    return scale, zero


@triton.jit
def dequantised(codes, scale, zero, ROWS: tl.constexpr, GROUPS: tl.constexpr, HALF: tl.constexpr):
    """Return float32 values [ROWS, GROUPS * 2 * HALF] for inputs in their order.

    `codes` is [ROWS, GROUPS * HALF], `scale` and `zero` are [ROWS, GROUPS]. A code that is put
    where the mantissa of 16.0 begins is 16 + code, which is cheaper than a conversion. What that is
    too much comes off in the addition of a fused multiply-add; it has 16 bits, so it is exact.
    """
    bits = codes.reshape(ROWS, GROUPS, HALF).to(tl.int32)
    low = ((bits << 19) & 0x780000) | 0x41800000
    high = ((bits << 15) & 0x780000) | 0x41800000
    offset = (-(16.0 + zero) * scale)[:, :, None]
    low = low.to(tl.float32, bitcast=True) * scale[:, :, None] + offset
    high = high.to(tl.float32, bitcast=True) * scale[:, :, None] + offset
    return tl.join(low, high).permute(0, 1, 3, 2).reshape(ROWS, GROUPS * 2 * HALF)

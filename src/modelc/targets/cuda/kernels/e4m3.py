"""Numbers and their e4m3 codes, for architectures with the type and (as bytes) for those without.

A float32's bits, less 120 in the exponent, are the code's with 20 bits more behind: both have the
exponent before the mantissa, and the same subnormals.
"""

from __future__ import annotations

import triton
import triton.language as tl

LARGEST = tl.constexpr(448.0)
DOWN = tl.constexpr(2.0**-120)
UP = tl.constexpr(2.0**120)


@triton.jit
def widened(codes, act: tl.constexpr):
    """What codes (e4m3, or its bytes) stand for, as `act`; other types are converted."""
    if codes.dtype == tl.uint8:
        bits = codes.to(tl.int32)
        bits = ((bits & 0x80) << 24) | ((bits & 0x7F) << 20)
        return (bits.to(tl.float32, bitcast=True) * UP).to(act)
    elif codes.dtype == tl.float8e4nv:
        return codes.to(tl.float16).to(act)
    else:
        return codes.to(act)


@triton.jit
def narrowed(numbers, type: tl.constexpr):
    """float32 numbers as `type`: rounded to even, and what e4m3 doesn't reach becomes its largest."""
    if type == tl.uint8:
        bits = (_clamped(numbers) * DOWN).to(tl.int32, bitcast=True)
        sign = (bits >> 24) & 0x80
        bits = bits & 0x7FFFFFFF
        codes = (bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20
        return tl.where(numbers == numbers, codes | sign, 0x7F).to(tl.uint8)
    elif type == tl.float8e4nv:
        return _clamped(numbers).to(type)
    else:
        return numbers.to(type)


@triton.jit
def _clamped(numbers):
    return tl.minimum(tl.maximum(numbers, -LARGEST), LARGEST)

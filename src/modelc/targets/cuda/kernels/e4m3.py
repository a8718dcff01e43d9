"""Numbers and their e4m3 codes, for architectures with the type and (as bytes) for those without.

The bits of a float32 or float16, with 120 or 8 less in the exponent, are those of the code with
others behind them: all have the exponent before the mantissa, and the same subnormals.
"""

from __future__ import annotations

import triton
import triton.language as tl

LARGEST = tl.constexpr(448.0)
DOWN = tl.constexpr(2.0**-120)
UP = tl.constexpr(2.0**8)
"""What the halves of `halves` are to be multiplied with."""


@triton.jit
def widened(codes, act: tl.constexpr):
    """What codes (e4m3, or its bytes, of which none is NaN) stand for, as `act`; other types are
    converted."""
    if codes.dtype == tl.uint8:
        codes = _shifted(codes.to(tl.uint16) << 8) * UP
    elif codes.dtype == tl.float8e4nv:
        codes = codes.to(tl.float16)
    return codes.to(act)


@triton.jit
def halves(words):
    """What the codes in uint16 words stand for, divided by UP: the lower ones, and the higher."""
    return _shifted(words << 8), _shifted(words & 0xFF00)


@triton.jit
def _shifted(words):
    """Codes that are high bytes, as float16, divided by UP."""
    return ((words & 0x8000) | ((words & 0x7F00) >> 1)).to(tl.float16, bitcast=True)


@triton.jit
def narrowed(numbers, type: tl.constexpr):
    """float32 numbers as `type`. Codes are rounded to even; what e4m3 doesn't reach becomes its
    largest number, NaN its NaN."""
    if type == tl.uint8 or type == tl.float8e4nv:
        # By integers on all architectures: it isn't much, and Triton's interpreter, which tests
        # this, loses a carry into the exponent.
        inside = tl.minimum(tl.maximum(numbers, -LARGEST), LARGEST)
        bits = (inside * DOWN).to(tl.int32, bitcast=True)
        sign = (bits >> 24) & 0x80
        bits = bits & 0x7FFFFFFF
        codes = (bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20
        codes = tl.where(numbers == numbers, codes | sign, 0x7F).to(tl.uint8)
        result = codes.to(type, bitcast=True)
    else:
        result = numbers.to(type)
    return result

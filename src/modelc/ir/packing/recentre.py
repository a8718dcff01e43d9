"""Float minima to whole zero points and a small rest, which 8 bits hold well enough.

MatMulNBits takes 4-bit zero points for nothing, but a product with float minima costs a sixth of
a decoding step. What the zero point leaves of a minimum is at most half a step of its block; in 8
bits it is off by a five-hundredth of one, where int8 activations are off by more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.nibbles import pack_nibbles
from modelc.ir.packing.requantise import to_eight_bits
from modelc.ir.packing.weight import PackedWeight, unpack

REST_BLOCK: Final = 32  # minima that share a scale
_CENTRE: Final = np.float32(8)
_LAST: Final = 15  # the largest zero point


def recentre(weight: PackedWeight) -> PackedWeight:
    """4 bits with minima to 4 bits with zero points and minima that `pack_rest` loses nothing of.

    The codes and scales are kept.
    """
    minima, scales = weight.minima, weight.scales
    assert weight.bits == 4 and minima is not None and weight.zero_points is None
    steps = np.divide(minima, scales, out=np.zeros_like(scales), where=scales != 0)
    points = np.clip(np.rint(_CENTRE - steps), 0, _LAST)
    rest = (minima - scales * (_CENTRE - points)).astype(np.float32)
    rows, blocks = points.shape
    even = np.zeros((rows, blocks + blocks % 2), np.uint8)
    even[:, :blocks] = points
    rounded = unpack(pack_rest(rest))[:, :blocks]
    return replace(weight, zero_points=pack_nibbles(even), minima=np.ascontiguousarray(rounded))


def pack_rest(minima: NDArray[np.float32]) -> PackedWeight:
    """float32 [N, blocks] to 8 bits, filled up with zeros to whole blocks of REST_BLOCK."""
    return to_eight_bits(np.pad(minima, ((0, 0), (0, -minima.shape[1] % REST_BLOCK))), REST_BLOCK)

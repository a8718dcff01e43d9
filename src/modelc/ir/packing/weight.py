"""The packed form of a weight matrix: the constant inputs of `com.microsoft.MatMulNBits`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.bits import expand_bits

Bits = Literal[2, 4, 8]


@dataclass(frozen=True)
class Layout:
    """The form of a packed matrix without its numbers.

    Attributes:
        zero_points: every block has its own, the default otherwise.
        minima: every block has one, added beside MatMulNBits.
    """

    bits: Bits
    block_size: int
    zero_points: bool = False
    minima: bool = False


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A matrix of N rows (output features) and K columns, quantised in blocks along K.

    Every weight is ``scale * (code - zero_point) + minimum`` with the scale, zero point and
    minimum of its block; an absent zero point is ``2 ** (bits - 1)``, an absent minimum 0.

    ``codes``        uint8   [N, K / block_size, block_size * bits / 8], low nibble first
    ``scales``       float32 [N, K / block_size]
    ``zero_points``  uint8   [N, ceil(K / block_size * bits / 8)], packed as the codes are
    ``minima``       float32 [N, K / block_size]; not an input of MatMulNBits: the lowering
                     adds ``block_sums(x) @ minima.T`` beside it
    """

    bits: Bits
    block_size: int
    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zero_points: NDArray[np.uint8] | None = None
    minima: NDArray[np.float32] | None = None

    @property
    def layout(self) -> Layout:
        return Layout(
            self.bits, self.block_size, self.zero_points is not None, self.minima is not None
        )

    @property
    def rows(self) -> int:
        """N, the number of output features."""
        return int(self.codes.shape[0])

    @property
    def columns(self) -> int:
        """K, the number of input features."""
        return int(self.codes.shape[1]) * self.block_size


def unpack(weight: PackedWeight) -> NDArray[np.float32]:
    """The float matrix [N, K], each element rounded once (computed in float64)."""
    flat = weight.codes.reshape(weight.rows, -1)
    codes = expand_bits(flat, weight.bits, weight.columns).reshape(*weight.scales.shape, -1)
    values = weight.scales[..., None].astype(np.float64) * (codes - _zero_points(weight))
    if weight.minima is not None:
        values += weight.minima[..., None].astype(np.float64)
    return values.reshape(weight.rows, weight.columns).astype(np.float32)


def _zero_points(weight: PackedWeight) -> NDArray[np.float64]:
    """Zero points [N, K / block_size, 1], the default spelled out."""
    blocks = weight.codes.shape[1]
    if weight.zero_points is None:
        return np.full((weight.rows, blocks, 1), 2.0 ** (weight.bits - 1))
    points = expand_bits(weight.zero_points, weight.bits, blocks)
    return points.astype(np.float64)[..., None]

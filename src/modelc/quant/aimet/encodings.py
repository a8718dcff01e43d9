"""What an AIMET encodings file says of each tensor, whatever its generation.

Offsets are AIMET's and QAIRT's: value = (code + offset) * scale with codes from 0, so a symmetric
signed tensor of b bits has the offset -2^(b-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from modelc.errors import BadInput, Where
from modelc.ir.encodings import Encoding, IntegerType

Granularity = Literal["tensor", "channel", "block", "lpbq"]

SECTIONS: Final = ("activation_encodings", "param_encodings")
"""What a file calls its two parts, before 2.0."""

UNSIGNED: Final[Mapping[int, IntegerType]] = {8: "uint8", 16: "uint16"}
"""The activation types that HTP computes on, by bits."""


@dataclass(frozen=True, eq=False)
class TensorEncoding:
    """One tensor's encoding.

    Attributes:
        bits: of a code as it is multiplied; `compressed_bits` of one as it is stored (lpbq).
        scales: float64; one, one per channel, or one per block, channel by channel ("block").
            With `lpbq` one per channel, and a block's is that times its `block_scales`.
        offsets: int64, one per scale.
        block_size: values that share a block's scale (block, lpbq).
        block_scales: int64, channel by channel (lpbq).
    """

    granularity: Granularity
    bits: int
    symmetric: bool
    scales: np.ndarray
    offsets: np.ndarray
    block_size: int = 0
    compressed_bits: int = 0
    block_scales: np.ndarray | None = None

    @property
    def stored_bits(self) -> int:
        """Return the bits that one value takes in the file that ships."""
        return self.compressed_bits or self.bits

    @property
    def centred(self) -> bool:
        """Whether 0 is the middle code everywhere, so that scales alone say the encoding."""
        return bool((self.offsets == -(1 << self.bits - 1)).all())

    def by_channel(self, channels: int) -> np.ndarray:
        """Return the scales of a matrix of so many output channels, float32 [channels] or
        [channels, blocks]; lpbq's multiplied out, one for the whole repeated.

        Raises:
            ValueError: it isn't centred, or the scales are not a multiple of `channels`.
        """
        if not self.centred:
            raise ValueError("scales without their offsets")
        if self.granularity == "tensor":
            return np.repeat(self.scales, channels).astype(np.float32)
        scales = self.scales.reshape(channels, -1)
        if self.block_scales is not None:
            scales = scales * self.block_scales.reshape(channels, -1)
        return (scales if self.block_size else scales.reshape(channels)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class AimetEncodings:
    """A file: encodings by tensor name.

    Attributes:
        floats: tensors that the file leaves in floating point, sorted.
    """

    activations: Mapping[str, TensorEncoding]
    parameters: Mapping[str, TensorEncoding]
    floats: tuple[str, ...] = ()


def to_activation(name: str, found: TensorEncoding, where: Where) -> Encoding:
    """Return an activation's encoding as graphs hold it.

    Raises:
        BadInput: it is not of one scale, not of 8 or 16 bits, or 0 has no code.
    """
    if found.granularity != "tensor":
        raise BadInput(
            f"{name} is an activation with a scale per {found.granularity}",
            where=where,
            hint="activations must have one scale",
        )
    if found.bits not in UNSIGNED:
        raise BadInput(
            f"{name} has {found.bits} bits, which is nothing that HTP computes on",
            where=where,
            hint="activations and KV caches must have 8 or 16 bits",
        )
    zero_point = -int(found.offsets[0])
    if not 0 <= zero_point < 1 << found.bits:
        raise BadInput(
            f"{name} has the offset {-zero_point}, so 0 has no code",
            where=where,
            hint=f"it must be from -{(1 << found.bits) - 1} to 0",
        )
    scale = float(np.float32(found.scales[0]))
    if not 0 < scale < float("inf"):
        raise BadInput(f"{name} has a scale that float32 can't hold", where=where)
    return Encoding(scale, zero_point, UNSIGNED[found.bits])


def from_activation(encoding: Encoding) -> TensorEncoding:
    """Return an encoding of a graph as a file says it; signed codes are counted from 0.

    It is never called symmetric, even where 0 is the middle code: readers take that for signed.
    """
    limits = np.iinfo(encoding.dtype)
    offset = int(limits.min) - encoding.zero_point
    return TensorEncoding(
        "tensor",
        limits.bits,
        False,
        np.array([encoding.scale], np.float64),
        np.array([offset], np.int64),
    )


def from_scales(scales: np.ndarray, bits: int, block_size: int = 0) -> TensorEncoding:
    """Return the centred encoding of a matrix with scales [channels] or [channels, blocks]."""
    flat = np.asarray(scales, np.float64).ravel()
    offsets = np.full(flat.size, -(1 << bits - 1), np.int64)
    granularity: Granularity = "block" if block_size else "channel"
    return TensorEncoding(granularity, bits, True, flat, offsets, block_size)


def from_low_power_blocks(
    scales: np.ndarray, factors: np.ndarray, bits: int, block_size: int
) -> TensorEncoding:
    """Return the encoding of a matrix of `bits` with a scale per channel [channels] and a whole
    factor per block [channels, blocks], which multiplies to codes of twice the bits (lpbq)."""
    wide = from_scales(scales, 2 * bits)
    blocks = np.asarray(factors, np.int64).ravel()
    return replace(
        wide,
        granularity="lpbq",
        block_size=block_size,
        compressed_bits=bits,
        block_scales=blocks,
    )

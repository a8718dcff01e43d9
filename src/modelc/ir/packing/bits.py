"""Codes of a few bits without gaps between them: two of 4 bits to a byte, eight of 3 bits to three
bytes, four of 6 bits to three.

The first code has the lowest bits of the first byte, as in ONNX's tensors of 4 and 2 bits, in
MatMulNBits and in MLC's words of 32 bits (where 3-bit codes leave two bits of each word unused).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.nibbles import expand_nibbles, pack_nibbles

_AT_ONCE: Final = 1 << 20  # codes; on the way each is a byte for every bit


def packed_width(codes: int, bits: int) -> int:
    """Return how many bytes a row of codes takes."""
    return -(-codes * bits // 8)


def pack_bits(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """One code a byte [rows, n] to [rows, packed_width(n, bits)]; bits that are over are 0."""
    if bits == 8:
        return codes
    rows, count = codes.shape
    if bits == 4:
        return pack_nibbles(np.pad(codes, ((0, 0), (0, count % 2))))
    packed = np.empty((rows, packed_width(count, bits)), np.uint8)
    for part in _parts(rows, count):
        each = np.unpackbits(codes[part, :, None], axis=-1, count=bits, bitorder="little")
        packed[part] = np.packbits(each.reshape(len(each), -1), axis=-1, bitorder="little")
    return packed


def expand_bits(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """The first `count` codes of each row [rows, bytes], one a byte [rows, count]."""
    if bits == 8:
        return packed[:, :count]
    if bits == 4:
        return expand_nibbles(packed)[:, :count]
    codes = np.empty((len(packed), count), np.uint8)
    for part in _parts(len(packed), count):
        each = np.unpackbits(packed[part], axis=-1, count=count * bits, bitorder="little")
        grouped = each.reshape(len(each), count, bits)
        codes[part] = np.packbits(grouped, axis=-1, bitorder="little")[..., 0]
    return codes


def _parts(rows: int, count: int) -> list[slice]:
    step = max(1, _AT_ONCE // max(count, 1))
    return [slice(first, first + step) for first in range(0, rows, step)]

"""Codes of few bits out of the words that they are packed in."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.layouts.layout import Rows
from modelc.ir.packing.bits import expand_bits

GROUP: Final = 32  # codes: a whole number of 32-bit words, whatever their bits


def along_words(words: NDArray[np.int32], bits: int, count: int) -> NDArray[np.uint8]:
    """Return the first codes of each row of words [rows, words]: uint8 [rows, count]"""
    return expand_bits(np.ascontiguousarray(words, "<i4").view(np.uint8), bits, count)


def of_outputs(words: NDArray[np.int32], bits: int, rows: Rows, height: int) -> NDArray[np.uint8]:
    """Return the codes of some outputs, which lie along the words int32 [n, height * bits / 32].

    Nothing far from these outputs is unpacked. Returns uint8 [n, outputs].
    """
    first, last = _bounds(rows, height)
    first, last = first // GROUP, -(-last // GROUP)
    start, count = first * GROUP, min(last * GROUP, height) - first * GROUP
    codes = along_words(words[:, first * bits : last * bits], bits, count)
    if isinstance(rows, slice):
        low, high, _ = rows.indices(height)
        return codes[:, low - start : high - start]
    taken: NDArray[np.uint8] = codes[:, rows - start]
    return taken


def signed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.int8]:
    """Return codes from 0 up as codes around 0."""
    return (codes - np.uint8(1 << (bits - 1))).view(np.int8)


def _bounds(rows: Rows, height: int) -> tuple[int, int]:
    if isinstance(rows, slice):
        first, last, _ = rows.indices(height)
        return first, last
    return (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)

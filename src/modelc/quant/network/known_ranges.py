"""Encodings and ranges that follow from the operator, whatever an observer makes of the samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np

from modelc.ir.encodings import Encoding, IntegerType, from_range
from modelc.quant.ranges import Range

_FROM_0_TO_1: Final = frozenset({"HardSigmoid"})
_HALF_OPEN: Final[Mapping[str, tuple[float, float]]] = {"Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
"""HTP computes them in steps of a power of two, the upper end left out, and takes no other."""


def known_encoding(op_type: str, dtype: IntegerType) -> Encoding | None:
    """Return the encoding of what an operator makes, None if that is for the samples to say."""
    if op_type in _FROM_0_TO_1:
        return from_range(0.0, 1.0, dtype)
    if op_type in _HALF_OPEN:
        low, high = _HALF_OPEN[op_type]
        limits = np.iinfo(dtype)
        scale = (high - low) / (int(limits.max) - int(limits.min) + 1)
        return Encoding(scale, int(limits.min) - round(low / scale), dtype)
    return None


PEAK_ROOM: Final = 1.25
"""How much further than seen a probability may go."""
LEAST_PEAK: Final = 1 / 32
"""HTP's Softmax in 8 bits has 42 dB in codes up to this, and 4 in codes up to a fifth of it."""


def softmax_range(peak: float) -> Range:
    """Return the range of a Softmax whose largest result was `peak`. No observer may clip it: the
    few large probabilities are what it is about. Where all are small, as over many classes or
    tokens, codes up to 1 would leave them but the lowest ones."""
    return Range(0.0, min(max(peak * PEAK_ROOM, LEAST_PEAK), 1.0))


LEAST_MADE: Final[Mapping[tuple[str, int], float]] = {("Log", 16): 4.001}
LEAST_READ: Final[Mapping[tuple[str, int], float]] = {("Softmax", 16): 12.0}
"""How far codes of so many bits have to reach in all that an operator makes, or reads. HTP's Log
makes nothing but zeros in steps of less than 2 ** -14; its Softmax has 14 dB of scores that reach
no further than 0.13, 57 to 73 of those within 1 or 2, and 85 of all of them in codes that reach as
far as 12."""


def spanned(found: Range, makers: Iterable[str], readers: Iterable[str], bits: int) -> Range:
    """Return a range that is wide enough for the operators that make and read a value in codes of
    so many bits."""
    least = [LEAST_MADE.get((op_type, bits), 0.0) for op_type in makers]
    least += [LEAST_READ.get((op_type, bits), 0.0) for op_type in readers]
    return Range(found.low, max(found.high, found.low + max(least, default=0.0)))

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


LEAST_SPANS: Final[Mapping[tuple[str, int], float]] = {("Log", 16): 4.001}
"""How far codes of so many bits have to reach in all. HTP's Log of 16 bits makes nothing but zeros
in steps of less than 2 ** -14."""


def spanned(found: Range, op_types: Iterable[str], bits: int) -> Range:
    """Return a range that is wide enough for the operators that make a value of so many bits."""
    least = max((LEAST_SPANS.get((op_type, bits), 0.0) for op_type in op_types), default=0.0)
    return Range(found.low, max(found.high, found.low + least))

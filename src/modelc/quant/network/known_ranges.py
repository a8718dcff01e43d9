"""Encodings that follow from the operator, whatever the samples show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from modelc.ir.encodings import Encoding, IntegerType, from_range

_FROM_0_TO_1: Final = frozenset({"HardSigmoid", "Softmax"})
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

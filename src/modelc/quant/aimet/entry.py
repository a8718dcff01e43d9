"""Typed, bounded access to one entry of a file from strangers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput, Where

MAX_BITS: Final = 32
MAX_VALUES: Final = 1 << 28
"""More than one scale for each 32 weights of the largest head there is."""


@dataclass(frozen=True)
class Entry:
    """What a file says of the tensor `name`; every getter raises BadInput with file and tensor."""

    name: str
    values: Mapping[str, Any]
    path: Path

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(key, f"an integer from {low} to {high}")
        return value

    def bits(self, key: str) -> int:
        return self.integer(key, 2, MAX_BITS)

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str):
            raise self.bad(key, "text")
        return value

    def flag(self, key: str) -> bool:
        """Return a truth value, which the older generation writes as text."""
        value = self.values.get(key)
        if isinstance(value, bool) or value in ("True", "False"):
            return value in (True, "True")
        raise self.bad(key, "true or false")

    def scales(self, key: str, values: Any = None) -> np.ndarray:
        """Return positive numbers, float64, of the shape that the file nests them in."""
        found = self._numbers(key, values)
        if not (found > 0).all():
            raise self.bad(key, "positive")
        return found

    def whole(self, key: str, low: int, high: int, values: Any = None) -> np.ndarray:
        """Return int64 numbers, which a file may write as 3 or as 3.0."""
        found = self._numbers(key, values)
        if not ((found == np.rint(found)) & (found >= low) & (found <= high)).all():
            raise self.bad(key, f"whole numbers from {low} to {high}")
        return found.astype(np.int64)

    def _numbers(self, key: str, values: Any) -> np.ndarray:
        values = self.values.get(key) if values is None else values
        try:
            found = np.asarray(values)
        except (ValueError, OverflowError):  # ragged, or nested too deeply
            found = np.empty(0, object)
        if found.dtype.kind not in "iuf" or not 0 < found.size <= MAX_VALUES:
            raise self.bad(key, "numbers")
        found = found.astype(np.float64)
        if not np.isfinite(found).all():
            raise self.bad(key, "finite numbers")
        return found

    def bad(self, key: str, expected: str) -> BadInput:
        """Return (not raise) the error for a key whose value is not what was expected."""
        if key not in self.values:
            return self.error(f"{key} is missing", f"it must be {expected}")
        shown = repr(self.values[key])
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return self.error(f"{key} is {shown}", f"it must be {expected}")

    def error(self, message: str, hint: str) -> BadInput:
        return BadInput(f"{self.name}: {message}", where=Where(path=str(self.path)), hint=hint)

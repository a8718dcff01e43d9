"""Ranges of activations, gathered once on the expanded canonical graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from modelc.errors import Damaged, ModelcError, Where


@dataclass(frozen=True)
class Range:
    """The smallest and the largest finite value seen."""

    low: float
    high: float

    @property
    def limit(self) -> float:
        return max(abs(self.low), abs(self.high))


class MinMaxObserver:
    """Keeps the running minimum and maximum of each named tensor."""

    def __init__(self) -> None:
        self._ranges: dict[str, Range] = {}

    def observe(self, name: str, values: np.ndarray) -> None:
        """Take in a float tensor; infinities (masks) don't count.

        Raises:
            ModelcError: the tensor holds NaN, so the model itself is broken.
        """
        if not np.issubdtype(values.dtype, np.floating) or not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            if np.isnan(low):
                raise ModelcError(
                    "the float model produced NaN while ranges were gathered",
                    where=Where(module=name),
                    hint="check the source's weights and the calibration text",
                )
            finite = values[np.isfinite(values)]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        seen = self._ranges.get(name)
        self._ranges[name] = (
            Range(min(low, seen.low), max(high, seen.high)) if seen else Range(low, high)
        )

    def ranges(self) -> dict[str, Range]:
        return dict(sorted(self._ranges.items()))


def save_ranges(ranges: Mapping[str, Range], path: Path) -> None:
    document = {name: asdict(ranges[name]) for name in sorted(ranges)}
    path.write_text(json.dumps(document, indent=1) + "\n")


def load_ranges(path: Path) -> dict[str, Range]:
    """Raises Damaged if the file is not what `save_ranges` writes."""
    try:
        return {name: Range(**row) for name, row in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"not a file of ranges: {error}", where=Where(path=str(path))) from error

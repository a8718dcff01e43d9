"""Outputs whose sizes depend on the inputs' numbers, such as the boxes that a detector keeps.

A rounded network may keep a box that the float one just drops, in another order. So such outputs
are compared as sets of rows along the axis that is open: those that both give, each counted once,
make Dice's coefficient, 2 |both| / (|one| + |other|) (Dice, Measures of the amount of ecologic
association between species, 1945). Rows of integers are the same or not; a float may be off by
TOLERANCE of its column's largest magnitude, but a whole number, as a class is, is the same or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

TOLERANCE: Final = 0.05
"""Of a column's largest magnitude in the float model's rows; of a box, the image's size or less."""
MOST_ROWS: Final = 4096
"""Rows of floats that partners are searched for; more of them are compared place by place."""


def open_axes(shape: Sequence[int | str]) -> tuple[int, ...]:
    """Return the axes whose sizes are names, of sizes that the data decides."""
    return tuple(axis for axis, size in enumerate(shape) if isinstance(size, str))


@dataclass(frozen=True)
class SelectionMetrics:
    """One output of open sizes against the reference, over all samples.

    Attributes:
        agreement: Dice's coefficient of all rows; 1 where there is none.
        wanted, found: rows that the float model and the compiled network give.
    """

    name: str
    agreement: float
    wanted: int
    found: int

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        return {"agreement": self.agreement, "wanted": self.wanted, "found": self.found}


class Selections:
    """What is counted of one output's samples.

    Args:
        axes: that are open. An output with several is one row, equal in size or not at all.
    """

    def __init__(self, axes: Sequence[int]) -> None:
        self._axes = tuple(axes)
        self._both = self._wanted = self._found = 0

    def fits(self, wanted: np.ndarray, found: np.ndarray) -> bool:
        """Return whether all sizes are the same but those that are open."""
        if wanted.ndim != found.ndim or wanted.dtype != found.dtype:
            return False
        return all(
            axis in self._axes or one == other
            for axis, (one, other) in enumerate(zip(wanted.shape, found.shape, strict=True))
        )

    def add(self, wanted: np.ndarray, found: np.ndarray) -> None:
        """Count one sample's rows; they must fit."""
        if len(self._axes) == 1:
            one, other = (_rows(array, self._axes[0]) for array in (wanted, found))
        elif wanted.shape == found.shape:
            one, other = wanted.reshape(-1, 1), found.reshape(-1, 1)
            if wanted.dtype.kind == "f":
                self._both += int(_near(one, other, _tolerances(one, other)).sum())
            else:
                self._both += int((one == other).sum())
            self._wanted, self._found = self._wanted + len(one), self._found + len(other)
            return
        else:
            self._wanted, self._found = self._wanted + wanted.size, self._found + found.size
            return
        self._wanted, self._found = self._wanted + len(one), self._found + len(other)
        if one.dtype.kind == "f":
            self._both += _partners(one, other)
        else:
            both = Counter(map(bytes, one)) & Counter(map(bytes, other))
            self._both += both.total()

    def metrics(self, name: str) -> SelectionMetrics:
        rows = self._wanted + self._found
        agreement = 2 * self._both / rows if rows else 1.0
        return SelectionMetrics(name, agreement, self._wanted, self._found)


def _rows(array: np.ndarray, axis: int) -> np.ndarray:
    moved = np.moveaxis(array, axis, 0)
    width = int(np.prod(moved.shape[1:], dtype=np.int64))
    return np.ascontiguousarray(moved.reshape(len(moved), width))


def _partners(wanted: np.ndarray, found: np.ndarray) -> int:
    """Return how many rows of floats have a partner, each the nearest that is left."""
    if not len(wanted) or not len(found):
        return 0
    tolerances = _tolerances(wanted, found)
    if max(len(wanted), len(found)) > MOST_ROWS:
        both = min(len(wanted), len(found))
        return int(_near(wanted[:both], found[:both], tolerances).sum())
    left = np.ones(len(found), bool)
    for row in wanted:
        near = left & _near(row, found, tolerances)
        if near.any():
            places = np.flatnonzero(near)
            with np.errstate(invalid="ignore"):
                gaps = np.abs(found[places].astype(np.float64) - row)
            gaps = np.nan_to_num(gaps).sum(axis=1)  # infinite in both is no gap
            left[places[int(np.argmin(gaps))]] = False
    return int((~left).sum())


def _near(one: np.ndarray, other: np.ndarray, tolerances: np.ndarray) -> np.ndarray:
    """Return which rows are near each other; what is infinite must be the same, NaN never is."""
    with np.errstate(invalid="ignore"):
        near = (one == other) | (np.abs(one.astype(np.float64) - other) <= tolerances)
    return np.asarray(near.all(axis=-1))


def _tolerances(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return what each column may be off by."""
    shown = np.where(np.isfinite(wanted), np.abs(wanted.astype(np.float64)), 0.0)
    both = np.concatenate([wanted, found])
    whole = (both == np.round(both)).all(axis=0)
    return np.where(whole, 0.0, TOLERANCE * shown.max(axis=0, initial=0.0))

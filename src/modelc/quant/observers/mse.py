"""The range with the least squared error: what clipping costs against what coarse codes cost.

As `tf_enhanced` in AIMET and the "enhanced" quantiser of Qualcomm's converters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from modelc.quant.observers.base import Grid, clipped
from modelc.quant.ranges import Range
from modelc.quant.statistics import TensorStatistics

CANDIDATES: Final = 256
"""Ends that are tried, at most, on each side of 0."""


@dataclass(frozen=True)
class Mse:
    """Tries all pairs of ends. A value within costs a twelfth of a step's square, as rounding does
    where the values in one step are about equally frequent; a value outside costs the square of its
    distance. 16 bits hardly ever clip: their steps are too small to win anything.
    """

    def choose(self, seen: TensorStatistics, grid: Grid) -> Range:
        edges = seen.histogram.edges
        edges[0], edges[-1] = min(edges[0], seen.low), max(edges[-1], seen.high)
        lows, highs = _candidates(-edges[::-1])[::-1] * -1.0, _candidates(edges)
        if grid.symmetric:
            highs = np.union1d(-lows, highs)
            lows = -highs
            cost = _below(seen, lows) + _above(seen, highs)
            cost += _rounding(seen, lows, highs, grid.steps)
            best = int(np.flatnonzero(cost == cost.min())[-1])  # the widest of equals
            return clipped(seen, float(lows[best]), float(highs[best]))
        cost = _below(seen, lows)[:, None] + _above(seen, highs)[None, :]
        cost += _rounding(seen, lows[:, None], highs[None, :], grid.steps)
        low, high = np.unravel_index(int(np.argmin(cost[:, ::-1])), cost.shape)
        return clipped(seen, float(lows[low]), float(highs[::-1][high]))


def _candidates(edges: np.ndarray) -> np.ndarray:
    """Return 0 and the positive edges, or enough of them, rising, the last always."""
    positive = np.append(0.0, edges[edges > 0])
    chosen = np.linspace(positive.size - 1, 0, min(positive.size, CANDIDATES)).astype(np.int64)
    return positive[np.unique(chosen)]


def _rounding(
    seen: TensorStatistics, lows: np.ndarray, highs: np.ndarray, steps: int
) -> np.ndarray:
    """Return the error of all values inside."""
    edges = seen.histogram.edges
    before = np.append(0.0, seen.histogram.counts.cumsum())
    inside = np.interp(highs, edges, before) - np.interp(lows, edges, before)
    squares: np.ndarray = inside * ((highs - lows) / steps) ** 2 / 12
    return squares


def _above(seen: TensorStatistics, ends: np.ndarray) -> np.ndarray:
    """Return the squared distances of all values above each end to it."""
    return _beyond(seen.histogram.centres, seen.histogram.counts, ends)


def _below(seen: TensorStatistics, ends: np.ndarray) -> np.ndarray:
    return _beyond(-seen.histogram.centres[::-1], seen.histogram.counts[::-1], -ends)


def _beyond(centres: np.ndarray, counts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return sum(counts * (centres - end)^2) of the centres above each end, by running sums."""
    sums = [np.append((counts * centres**power)[::-1].cumsum()[::-1], 0.0) for power in (0, 1, 2)]
    zeroth, first, second = (one[np.searchsorted(centres, ends, side="right")] for one in sums)
    squares: np.ndarray = np.maximum(second - 2 * ends * first + ends**2 * zeroth, 0.0)
    return squares

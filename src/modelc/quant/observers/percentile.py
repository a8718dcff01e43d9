"""The range that holds a given share of the values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelc.quant.observers.base import Grid, clipped
from modelc.quant.ranges import Range
from modelc.quant.statistics import TensorStatistics


@dataclass(frozen=True)
class Percentile:
    """Leaves out as many values below as above, or where the codes are symmetric those farthest
    from 0; exact to a bin of the histogram, which is kept whole.

    Attributes:
        kept: percent of the values within the range, above 0, at most 100.
    """

    kept: float = 99.99

    def choose(self, seen: TensorStatistics, grid: Grid) -> Range:
        out = 1 - self.kept / 100
        histogram = seen.histogram
        if grid.symmetric:
            folded = histogram.folded()
            limit = float(folded.edges[_edge(folded.counts, out)])
            return clipped(seen, -limit, limit)
        edges, counts = histogram.edges, histogram.counts
        low = edges[counts.size - _edge(counts[::-1], out / 2)]
        high = edges[_edge(counts, out / 2)]
        return clipped(seen, float(low), float(high))


def _edge(counts: np.ndarray, share: float) -> int:
    """Return the first edge with at most this share of the counts behind it."""
    behind = counts[::-1].cumsum()  # behind the edges, the last but one first
    most = share * counts.sum() + 1e-6  # so that 0.1 % of 1000 is 1
    return int(counts.size - np.searchsorted(behind, most, side="right"))

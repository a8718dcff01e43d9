"""The range that loses the least information: Kullback and Leibler's divergence.

S. Migacz, "8-bit inference with TensorRT", GTC 2017; smoothing as in MXNet's `quantization.py`,
which ONNX Runtime's calibrator has it from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from modelc.quant.observers.base import Grid, clipped
from modelc.quant.ranges import Range
from modelc.quant.statistics import TensorStatistics

SMOOTHING: Final = 1e-4
"""What an empty bin is given, so that the divergence stays finite."""


@dataclass(frozen=True)
class Entropy:
    """Compares, for every limit, the histogram clipped there with what is left of it in as many
    bins as there are codes. The limit is one distance from 0 for both ends.

    With more codes than bins, as for 16 bits, nothing is lost in any range: all of it is kept.
    """

    def choose(self, seen: TensorStatistics, grid: Grid) -> Range:
        both = seen.histogram.both_sides()
        dropped = least_loss(both.counts, grid.steps)
        if not dropped:
            return clipped(seen, seen.low, seen.high)
        limit = float(both.edges[-1 - dropped])
        return clipped(seen, -limit, limit)


def least_loss(counts: np.ndarray, codes: int) -> int:
    """Return how many bins to drop at either end; none if there are no more bins than codes, and
    the fewest of several as good.

    Args:
        counts: int [bins], the middle at 0.
    """
    most = max(counts.size - codes, 0) // 2
    return int(np.argmin([divergence(counts, dropped, codes) for dropped in range(most + 1)]))


def divergence(counts: np.ndarray, dropped: int, codes: int) -> float:
    """Return how much less the bins say if the codes share them out evenly; what lies in those
    dropped at either end counts in the outermost that is kept."""
    end = counts.size - dropped
    kept = counts[dropped:end].astype(np.float64)
    codes = min(codes, kept.size)
    clipped_counts = kept.copy()
    clipped_counts[0] += counts[:dropped].sum()
    clipped_counts[-1] += counts[end:].sum()
    starts = np.arange(codes) * kept.size // codes
    sizes = np.diff(np.append(starts, kept.size))
    used = clipped_counts != 0
    sums, bins = np.add.reduceat(kept, starts), np.add.reduceat(used.astype(np.int64), starts)
    level = np.divide(sums, bins, out=np.zeros_like(sums), where=bins != 0)
    spread = np.where(used, np.repeat(level, sizes), 0.0)
    reference, candidate = _smooth(clipped_counts), _smooth(spread)
    if reference is None or candidate is None:
        return np.inf
    reference /= reference.sum()
    candidate /= candidate.sum()
    return float(np.sum(reference * np.log(reference / candidate)))


def _smooth(counts: np.ndarray) -> np.ndarray | None:
    """Give empty bins a little of what is in the others; None if these have too little."""
    empty = counts == 0
    filled = int((~empty).sum())
    if not filled:
        return None
    taken = SMOOTHING * int(empty.sum()) / filled
    smoothed = counts + SMOOTHING * empty - taken * ~empty
    return smoothed if (smoothed > 0).all() else None

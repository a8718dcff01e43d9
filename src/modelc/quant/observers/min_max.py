"""Everything that was seen."""

from __future__ import annotations

from dataclasses import dataclass

from modelc.quant.observers.base import Grid
from modelc.quant.ranges import Range
from modelc.quant.statistics import TensorStatistics


@dataclass(frozen=True)
class MinMax:
    """From the smallest to the largest value: nothing is clipped, and one outlier costs all other
    values precision."""

    def choose(self, seen: TensorStatistics, grid: Grid) -> Range:
        return Range(seen.low, seen.high)

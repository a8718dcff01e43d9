"""The exponential moving average of every sequence's smallest and largest value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from modelc.quant.observers.base import Grid, clipped
from modelc.quant.ranges import Range
from modelc.quant.statistics import TensorStatistics


@dataclass(frozen=True)
class MovingAverage:
    """As PyTorch's MovingAverageMinMaxObserver: begins with the first sequence, and each further
    one moves the average by `weight` of the difference.

    PyTorch's default of 0.01 suits training, with its thousands of batches; calibration has tens,
    of which it would leave the first almost alone.
    """

    weight: float = 0.1

    def choose(self, seen: TensorStatistics, grid: Grid) -> Range:
        return clipped(seen, self._average(seen.lows), self._average(seen.highs))

    def _average(self, values: np.ndarray) -> float:
        average = float(values[0])
        for value in values[1:]:
            average += self.weight * (float(value) - average)
        return average

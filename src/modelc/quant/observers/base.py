"""What an observer is: from what was seen of a tensor to the range that its codes cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from modelc.quant.ranges import Range
from modelc.quant.statistics import TensorStatistics


@dataclass(frozen=True)
class Grid:
    """The codes that a range is chosen for.

    Attributes:
        steps: from the lowest code to the highest, 255 for 8 bits.
        symmetric: the range reaches as far below 0 as above.
    """

    steps: int
    symmetric: bool = False


class Observer(Protocol):
    """Chooses ranges; one for all tensors of a model."""

    def choose(self, seen: TensorStatistics, grid: Grid) -> Range:
        """Return the range to cover, within what was seen."""
        ...


def clipped(seen: TensorStatistics, low: float, high: float) -> Range:
    """Return [low, high] cut to what was seen, and where it leaves some of that out."""
    inner_low = min(max(low, seen.low), seen.high)  # of a constant both ends are the constant
    inner_high = max(min(high, seen.high), seen.low)
    return Range(inner_low, inner_high, inner_low > seen.low, inner_high < seen.high)

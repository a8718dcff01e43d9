"""What calibration keeps of each activation: enough for every observer, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelc.errors import ModelcError, Where
from modelc.quant.histogram import Histogram

SAMPLED: Final = 1 << 18
"""Of more elements in one tensor of one sequence only about so many are counted in histogram, mean
and deviation; all of them in the smallest and the largest."""


HIDDEN: Final = float(np.finfo(np.float32).min) / 2
"""Values up to this are hidden by a mask, which adds float32's smallest."""


@dataclass(frozen=True, eq=False)
class TensorStatistics:
    """What was seen of one tensor; what is infinite or hidden doesn't count.

    Attributes:
        lows, highs: float64 [sequences], the smallest and the largest value of each.
        sum, squares: of the values in the histogram, and of their squares.
        histogram: of the values that were counted.
    """

    lows: np.ndarray
    highs: np.ndarray
    sum: float
    squares: float
    histogram: Histogram

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        sampled: int = SAMPLED,
        extremes: tuple[float, float] | None = None,
    ) -> TensorStatistics:
        """Take in one tensor of one sequence, float32 of any shape, not empty.

        Args:
            sampled: how many of its values are counted, about.
            extremes: its smallest and its largest value, if they are known.

        Raises:
            ModelcError: it holds NaN.
        """
        low, high = extremes or (float(values.min()), float(values.max()))
        if math.isnan(low):
            raise ModelcError(
                "the float model produced NaN while ranges were gathered",
                hint="check the source's weights and the calibration text",
            )
        counted = _sample(values, sampled)
        if low <= HIDDEN or high == math.inf:
            shown = _shown(values)
            low = float(values.min(where=shown, initial=math.inf))
            high = float(values.max(where=shown, initial=-math.inf))
            if low > high:
                low = high = 0.0
            counted = counted[_shown(counted)]
            counted = counted if counted.size else np.array([low, high])
        counted = counted.astype(np.float64)
        return cls(
            np.array([low]),
            np.array([high]),
            float(counted.sum()),
            float(np.square(counted).sum()),
            Histogram.of(counted),
        )

    @property
    def low(self) -> float:
        return float(self.lows.min())

    @property
    def high(self) -> float:
        return float(self.highs.max())

    @property
    def mean(self) -> float:
        return self.sum / self.histogram.total

    @property
    def deviation(self) -> float:
        """Standard deviation of the values."""
        return math.sqrt(max(self.squares / self.histogram.total - self.mean**2, 0.0))

    def merged(self, *later: TensorStatistics) -> TensorStatistics:
        """Return the statistics of these sequences and `later` ones, in their order."""
        every = (self, *later)
        return TensorStatistics(
            np.concatenate([one.lows for one in every]),
            np.concatenate([one.highs for one in every]),
            sum(one.sum for one in every),
            sum(one.squares for one in every),
            self.histogram.merged(*(one.histogram for one in later)),
        )

    def share_outside(self, low: float, high: float) -> float:
        """Return the share of values below `low` or above `high`, to a bin."""
        edges = self.histogram.edges
        outside = (edges[1:] <= low) | (edges[:-1] > high)
        return float(self.histogram.counts[outside].sum() / self.histogram.total)


class StatisticsGatherer:
    """Keeps the statistics of each named tensor; its state can be saved and taken up again.

    Args:
        sampled: values of a tensor of one sequence that are counted, about.
    """

    def __init__(self, sampled: int = SAMPLED) -> None:
        self._sampled = sampled
        self.tensors: dict[str, TensorStatistics] = {}
        self._seen = 0

    @property
    def seen(self) -> int:
        """How many tensors of how many sequences were taken in, in all."""
        return self._seen

    def observe(self, name: str, values: np.ndarray) -> None:
        """Take in one tensor of one sequence; what is empty or no float is passed over.

        Raises:
            ModelcError: it holds NaN, so the model itself is broken.
        """
        if not np.issubdtype(values.dtype, np.floating) or not values.size:
            return
        try:
            now = TensorStatistics.of(values, self._sampled)
        except ModelcError as error:
            error.where = Where(module=name)
            raise
        before = self.tensors.get(name)
        self.tensors[name] = before.merged(now) if before else now
        self._seen += 1

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that is kept, for `restore`."""
        return to_arrays(self.tensors)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what `arrays` gave.

        Raises:
            KeyError, ValueError: these are not such arrays.
        """
        self.tensors = from_arrays(arrays)
        self._seen = sum(tensor.lows.size for tensor in self.tensors.values())


def to_arrays(statistics: Mapping[str, TensorStatistics]) -> dict[str, np.ndarray]:
    """Return statistics as few arrays, whatever the number of tensors."""
    rows = [statistics[name] for name in sorted(statistics)]
    return {
        "names": np.array(sorted(statistics), dtype=np.str_),
        "sums": np.array([(row.sum, row.squares) for row in rows], np.float64).reshape(-1, 2),
        "grids": np.array(
            [
                (row.histogram.exponent, row.histogram.first, row.histogram.counts.size)
                for row in rows
            ],
            np.int64,
        ).reshape(-1, 3),
        "sequences": np.array([row.lows.size for row in rows], np.int64),
        "lows": np.concatenate([*(row.lows for row in rows), np.zeros(0)]),
        "highs": np.concatenate([*(row.highs for row in rows), np.zeros(0)]),
        "counts": np.concatenate([*(row.histogram.counts for row in rows), np.zeros(0, np.int64)]),
    }


def from_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, TensorStatistics]:
    """Return the statistics that `to_arrays` made these arrays of.

    Raises:
        KeyError, ValueError: they are not such arrays.
    """
    bins = np.cumsum(arrays["grids"][:, 2])[:-1]
    seen = np.cumsum(arrays["sequences"])[:-1]
    lows, highs = np.split(arrays["lows"], seen), np.split(arrays["highs"], seen)
    counts = np.split(arrays["counts"], bins)
    return {
        str(name): TensorStatistics(
            lows[index],
            highs[index],
            float(arrays["sums"][index, 0]),
            float(arrays["sums"][index, 1]),
            Histogram(
                int(arrays["grids"][index, 0]), int(arrays["grids"][index, 1]), counts[index]
            ),
        )
        for index, name in enumerate(arrays["names"])
    }


def _shown(values: np.ndarray) -> np.ndarray:
    shown: np.ndarray = (values > HIDDEN) & (values < math.inf)
    return shown


def _sample(values: np.ndarray, sampled: int) -> np.ndarray:
    """Return about `sampled` of the values, spread over all rows and, as the stride has no factor
    in common with their length, over all columns."""
    stride = -(-values.size // sampled)
    while math.gcd(stride, values.shape[-1] if values.ndim else 1) > 1:
        stride += 1
    return values.reshape(-1)[::stride]

"""Histograms of bounded size that widen as the range grows, exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

BINS: Final = 2048
"""At most so many; at least half as many if values lie far enough apart."""

_FINEST: Final = 40  # bits of a bin's index, so that it is exact
_LEAST: Final = -200  # exponent of a bin's width where all is 0


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of values in bins of one width, a power of two, with an edge at 0.

    The bins are the finest grid on which all values need no more than `BINS`. Since every grid's
    edges are edges of all finer ones, a merge only adds counts: the result is the histogram of all
    values together, in whatever order they came.

    Attributes:
        exponent: of the bins' width, 2 ** exponent.
        first: index of the first bin, which begins at first * width.
        counts: int64 [bins].
    """

    exponent: int
    first: int
    counts: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Histogram:
        """Return the histogram of float values of any shape, all finite and at least one."""
        values = values.reshape(-1).astype(np.float64, copy=False)
        low, high = float(values.min()), float(values.max())
        exponent = _exponent(low, high)
        indices = values * math.ldexp(1.0, -exponent)
        np.floor(indices, out=indices)
        first = math.floor(math.ldexp(low, -exponent))
        indices -= first
        return cls(exponent, first, np.bincount(indices.astype(np.int64)))

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self.exponent)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @property
    def edges(self) -> np.ndarray:
        """float64 [bins + 1]"""
        return np.ldexp(
            np.arange(self.first, self.first + self.counts.size + 1, dtype=np.float64),
            self.exponent,
        )

    @property
    def centres(self) -> np.ndarray:
        """float64 [bins]"""
        return self.edges[:-1] + self.width / 2

    def merged(self, *others: Histogram) -> Histogram:
        """Return the histogram of the values of all of them."""
        every = (self, *others)
        exponent = max(one.exponent for one in every)
        while _span(every, exponent) > BINS:
            exponent += 1
        coarse = [one._coarser(exponent) for one in every]
        first = min(one.first for one in coarse)
        counts = np.zeros(max(one.first + one.counts.size for one in coarse) - first, np.int64)
        for one in coarse:
            counts[one.first - first :][: one.counts.size] += one.counts
        return Histogram(exponent, first, counts)

    def both_sides(self) -> Histogram:
        """Return it from as far below 0 as above, in at most 2 * `BINS` bins."""
        coarse = self
        while max(-coarse.first, coarse.first + coarse.counts.size) > BINS:
            coarse = coarse._coarser(coarse.exponent + 1)
        half = max(-coarse.first, coarse.first + coarse.counts.size)
        counts = np.zeros(2 * half, np.int64)
        counts[half + coarse.first :][: coarse.counts.size] = coarse.counts
        return Histogram(coarse.exponent, -half, counts)

    def folded(self) -> Histogram:
        """Return the histogram of the absolute values, from 0 on."""
        both = self.both_sides()
        half = -both.first
        return Histogram(both.exponent, 0, both.counts[half:] + both.counts[:half][::-1])

    def _coarser(self, exponent: int) -> Histogram:
        shift = exponent - self.exponent
        if not shift:
            return self
        first = self.first >> shift
        last = (self.first + self.counts.size - 1) >> shift
        # Where the bins of the coarser grid begin in this one's.
        starts = (np.arange(first, last + 1) << shift) - self.first
        starts[0] = 0
        return Histogram(exponent, first, np.add.reduceat(self.counts, starts))


def _exponent(low: float, high: float) -> int:
    """Return the finest bins' exponent for values from `low` to `high`."""
    limit = max(abs(low), abs(high))
    exponent = max(math.frexp(limit)[1] - _FINEST, _LEAST) if limit else _LEAST
    if high > low:
        exponent = max(exponent, math.frexp(high - low)[1] - BINS.bit_length())
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= BINS:
        exponent += 1
    return exponent


def _span(histograms: Sequence[Histogram], exponent: int) -> int:
    """Return how many bins all together need with this exponent."""
    first = min(one.first >> (exponent - one.exponent) for one in histograms)
    last = max((one.first + one.counts.size - 1) >> (exponent - one.exponent) for one in histograms)
    return last - first + 1

"""Histograms that widen: the same whatever the order, and no value lost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.quant.histogram import BINS, Histogram

VALUES = st.lists(
    st.floats(-1e6, 1e6, width=32) | st.floats(-(2**-10), 2**-10, width=32) | st.just(0.0),
    min_size=1,
    max_size=30,
)


def of(values: list[float]) -> Histogram:
    return Histogram.of(np.array(values, np.float32))


@settings(max_examples=80)
@given(chunks=st.lists(VALUES, min_size=1, max_size=5), order=st.randoms())
def test_merged_in_any_order_it_is_that_of_all_values(
    chunks: list[list[float]], order: object
) -> None:
    whole = of([value for chunk in chunks for value in chunk])
    shuffled = sorted(chunks, key=lambda chunk: order.random())  # type: ignore[attr-defined]
    merged = of(shuffled[0])
    for chunk in shuffled[1:]:
        merged = merged.merged(of(chunk))
    for found in (merged, of(shuffled[0]).merged(*map(of, shuffled[1:]))):
        assert (found.exponent, found.first) == (whole.exponent, whole.first)
        np.testing.assert_array_equal(found.counts, whole.counts)
        assert found.total == sum(map(len, chunks))


@settings(max_examples=80)
@given(values=VALUES)
def test_bins_are_few_and_hold_what_numpy_counts(values: list[float]) -> None:
    histogram = of(values)
    assert histogram.counts.size <= BINS
    counts = [
        sum(low <= np.float32(value) < high for value in values)
        for low, high in pairwise(histogram.edges[: 1 + 64])
    ]
    assert counts == histogram.counts[:64].tolist()
    assert histogram.counts[0] > 0
    assert histogram.counts[-1] > 0


def test_it_is_fine_and_widens_as_the_range_grows() -> None:
    values = np.random.default_rng(0).normal(size=10000)
    narrow = Histogram.of(values)
    assert BINS // 2 <= narrow.counts.size <= BINS
    wide = narrow.merged(of([1000.0]))
    assert wide.width > 100 * narrow.width
    assert wide.total == 10001
    expected, _ = np.histogram(np.append(values, 1000.0), wide.edges)
    np.testing.assert_array_equal(wide.counts, expected)


def test_one_value_alone() -> None:
    assert of([0.0]).counts.tolist() == [1]
    for value in (3.4e38, -3.4e38, 1e-45, -7.25):
        histogram = of([value])
        assert histogram.edges[0] <= np.float32(value) < histogram.edges[1]
    both = of([3.4e38]).merged(of([-3.4e38])).merged(of([1e-40]))
    assert (both.total, both.counts.size <= BINS) == (3, True)


def test_folded_counts_are_those_of_absolute_values() -> None:
    values = np.random.default_rng(1).normal(0.3, 1, 5000)
    histogram = Histogram.of(values)
    folded = histogram.folded()
    expected, _ = np.histogram(np.abs(values), folded.edges)
    np.testing.assert_array_equal(folded.counts, expected)
    assert (folded.first, folded.total) == (0, 5000)


def test_both_sides_of_values_far_from_zero_are_few() -> None:
    both = of([1000.0, 1000.5]).both_sides()
    assert both.counts.size <= 2 * BINS
    assert (both.first, both.total) == (-both.counts.size // 2, 2)


@pytest.mark.parametrize("bins", [1, 2])
def test_edges(bins: int) -> None:
    histogram = Histogram(-1, -3, np.ones(bins, np.int64))
    np.testing.assert_array_equal(histogram.edges, [-1.5, -1.0, -0.5][: bins + 1])
    np.testing.assert_array_equal(histogram.centres, [-1.25, -0.75][:bins])

"""What calibration keeps of tensors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.errors import ModelcError
from modelc.quant.statistics import StatisticsGatherer, TensorStatistics


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 2, shape).astype(np.float32)


def test_moments_and_extremes_of_several_sequences() -> None:
    tensors = [random(3, 40, seed=n) for n in range(4)]
    merged = TensorStatistics.of(tensors[0])
    for tensor in tensors[1:]:
        merged = merged.merged(TensorStatistics.of(tensor))
    values = np.stack(tensors).astype(np.float64)
    assert (merged.low, merged.high) == (values.min(), values.max())
    np.testing.assert_array_equal(merged.lows, values.min(axis=(1, 2)))
    assert merged.mean == pytest.approx(values.mean())
    assert merged.deviation == pytest.approx(values.std())
    assert merged.share_outside(-1, 2) == pytest.approx(
        np.mean((values < -1) | (values > 2)), abs=0.01
    )


def test_of_a_large_tensor_a_part_of_every_row_and_column_is_counted() -> None:
    values = np.zeros((100, 64), np.float32) + np.arange(64, dtype=np.float32)
    values[57, 13] = 200
    seen = TensorStatistics.of(values, sampled=1000)
    assert seen.high == 200  # of all
    assert 900 <= seen.histogram.total <= 1000
    assert np.count_nonzero(seen.histogram.counts) >= 64
    assert seen.mean == pytest.approx(31.5, rel=0.02)


def test_infinite_values_do_not_count() -> None:
    seen = TensorStatistics.of(np.array([-np.inf, -1, 3], np.float32))
    assert (seen.low, seen.high, seen.histogram.total) == (-1, 3, 2)
    masked = TensorStatistics.of(np.full(3, -np.inf, np.float32))
    assert (masked.low, masked.high) == (0, 0)


def test_nan_names_the_tensor() -> None:
    with pytest.raises(ModelcError, match="NaN") as caught:
        StatisticsGatherer().observe("model.norm", np.array([1, np.nan], np.float32))
    assert caught.value.where.module == "model.norm"


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(1, 5), max_size=6))
def test_what_is_saved_is_restored_to_the_bit(sizes: list[int]) -> None:
    gatherer = StatisticsGatherer()
    for index, sequences in enumerate(sizes):
        for sequence in range(sequences):
            gatherer.observe(f"t{index}", random(7, seed=10 * index + sequence))
    other = StatisticsGatherer()
    other.restore(gatherer.arrays())
    assert other.seen == gatherer.seen == sum(sizes)
    for both in (gatherer, other):
        both.observe("t0", random(9, seed=99))
    found, wanted = other.arrays(), gatherer.arrays()
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])

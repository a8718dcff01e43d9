"""Observers against what others compute: numpy, torch, ONNX Runtime, and exhaustive search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelc.ir.encodings import symmetric
from modelc.quant.observers import OBSERVERS, Grid, make_observer
from modelc.quant.observers.entropy import Entropy, divergence, least_loss
from modelc.quant.observers.moving_average import MovingAverage
from modelc.quant.observers.mse import Mse
from modelc.quant.observers.percentile import Percentile
from modelc.quant.ranges import Range
from modelc.quant.statistics import TensorStatistics

BITS8, CACHE8, BITS16 = Grid(255), Grid(254, symmetric=True), Grid(65535)


def seen(*tensors: np.ndarray) -> TensorStatistics:
    merged = TensorStatistics.of(tensors[0].astype(np.float32))
    for tensor in tensors[1:]:
        merged = merged.merged(TensorStatistics.of(tensor.astype(np.float32)))
    return merged


def heavy(seed: int = 0, count: int = 60000) -> np.ndarray:
    """A heavy tail on both sides, the right one longer."""
    values = np.random.default_rng(seed).standard_t(3, count)
    return np.where(values > 0, 2 * values, values).astype(np.float32)


def error(values: np.ndarray, chosen: Range, steps: int) -> float:
    """The mean squared error of rounding to `steps` steps, of which one lies at 0."""
    low, high = min(chosen.low, 0), max(chosen.high, 0)
    scale = (high - low) / steps
    first = np.rint(low / scale)
    rounded = np.clip(np.rint(values / scale), first, first + steps) * scale
    return float(np.square(rounded - values).mean())


@settings(max_examples=40)
@example(values=[-1.0], name="mse", grid=BITS8)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    name=st.sampled_from(sorted(OBSERVERS)),
    grid=st.sampled_from([BITS8, CACHE8, BITS16]),
)
def test_no_observer_goes_beyond_what_was_seen(values: list[float], name: str, grid: Grid) -> None:
    chosen = make_observer(name).choose(seen(np.array(values)), grid)
    low, high = min(values), max(values)
    assert low <= chosen.low <= high
    assert low <= chosen.high <= high
    assert chosen.clips_low == (chosen.low > np.float32(low))
    assert chosen.clips_high == (chosen.high < np.float32(high))


def test_moving_average_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    from torch.ao.quantization.observer import MovingAverageMinMaxObserver

    tensors = [heavy(seed, 500) for seed in range(9)]
    observer = MovingAverageMinMaxObserver(averaging_constant=0.1)
    for tensor in tensors:
        observer(torch.from_numpy(tensor))
    chosen = MovingAverage().choose(seen(*tensors), BITS8)
    assert chosen.low == pytest.approx(float(observer.min_val), rel=1e-5)
    assert chosen.high == pytest.approx(float(observer.max_val), rel=1e-5)
    assert chosen.clips_high


@pytest.mark.parametrize("kept", [90.0, 99.0, 99.9])
def test_percentile_is_numpys(kept: float) -> None:
    values = heavy(count=250000)
    chosen = Percentile(kept).choose(statistics := seen(values), BITS8)
    low, high = np.percentile(values, [(100 - kept) / 2, (100 + kept) / 2])
    width = statistics.histogram.width
    assert chosen.low == pytest.approx(low, abs=width)
    assert chosen.high == pytest.approx(high, abs=width)
    outside = np.count_nonzero((values < chosen.low) | (values > chosen.high))
    assert outside <= round(values.size * (100 - kept) / 100)
    limit = Percentile(kept).choose(statistics, CACHE8).high
    assert limit == pytest.approx(np.percentile(np.abs(values), kept), abs=width)


def test_percentile_100_keeps_everything() -> None:
    values = heavy(count=500)
    chosen = Percentile(100.0).choose(seen(values), BITS8)
    assert chosen == Range(float(values.min()), float(values.max()))


@pytest.mark.parametrize("steps", [7, 15, 31])
def test_mse_beats_min_max_and_comes_near_the_best_range_there_is(steps: int) -> None:
    values = heavy(count=20000)
    everything = Range(float(values.min()), float(values.max()))
    chosen = Mse().choose(seen(values), Grid(steps))
    best = min(
        error(values, Range(low * everything.low, high * everything.high), steps)
        for low in np.linspace(0.05, 1, 25)
        for high in np.linspace(0.05, 1, 25)
    )
    assert error(values, chosen, steps) < 0.5 * error(values, everything, steps)
    assert error(values, chosen, steps) < 1.2 * best


def test_mse_for_symmetric_codes_is_near_the_best_limit() -> None:
    values = heavy(3, 20000)

    def loss(limit: float) -> float:
        encoding = symmetric(limit, "uint8")
        return float(np.square(encoding.dequantise(encoding.quantise(values)) - values).mean())

    chosen = Mse().choose(seen(values), CACHE8)
    best = min(loss(limit) for limit in np.linspace(0.05, 1, 200) * np.abs(values).max())
    assert loss(chosen.limit) < 1.1 * best


def test_mse_clips_where_steps_are_coarse_only() -> None:
    statistics = seen(heavy())
    assert Mse().choose(statistics, BITS8).clips_high
    fine = Mse().choose(statistics, BITS16)
    assert fine.high > 0.5 * statistics.high
    even = seen(np.linspace(-1, 3, 5000))
    assert Mse().choose(even, BITS8).low == pytest.approx(-1, rel=0.02)


def test_mse_of_values_on_one_side_of_zero() -> None:
    assert Mse().choose(seen(np.linspace(2, 3, 500)), BITS8).high == pytest.approx(3, rel=0.01)
    assert Mse().choose(seen(np.linspace(-3, -2, 500)), BITS8).low == pytest.approx(-3, rel=0.01)
    assert Mse().choose(seen(np.zeros(5)), BITS8) == Range(0, 0)


@pytest.mark.parametrize(
    ("kind", "codes", "bins"),
    [("normal", 127, 2001), ("normal", 255, 4001), ("laplace", 127, 2001)],
)
def test_entropy_is_near_onnx_runtimes(kind: str, codes: int, bins: int) -> None:
    """Of the same histogram. It forgets the bins that are left over where their number does not
    divide by that of the codes, and so comes out anywhere around."""
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    values = getattr(np.random.default_rng(0), kind)(size=50000)
    limit = 4 * np.abs(values).max()
    values[:10] = np.linspace(-limit, limit, 10)  # outliers, far out
    counts, edges = np.histogram(values, bins, range=(-limit, limit))
    collector = calibrate.HistogramCollector("entropy", True, bins, codes, 0, "same")
    ends = [np.array(end) for end in (-limit, limit, limit)]
    _, high = collector.get_entropy_threshold((counts * 10**6, edges, *ends), codes)
    dropped = least_loss(counts, codes)
    assert edges[dropped] == pytest.approx(-edges[-1 - dropped])
    assert 1 / 1.7 < edges[-1 - dropped] / high < 1.7
    assert high < limit / 2


def test_the_divergence_is_onnx_runtimes_where_bins_divide_by_codes() -> None:
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    counts = np.random.default_rng(0).integers(1, 1000, 61)
    counts[:5], counts[-5:] = 0, (0, 0, 900, 0, 1)
    kept = counts[8:-8].astype(np.float64)
    kept[0], kept[-1] = counts[:9].sum(), counts[-9:].sum()
    merged = np.repeat(counts[8:-8].reshape(15, 3).sum(axis=1) / 3, 3)
    smooth = calibrate.smooth_distribution
    expected = calibrate.entropy(smooth(kept), smooth(merged))
    assert divergence(counts, 8, 15) == pytest.approx(float(expected), rel=1e-5)


def test_entropy_leaves_out_outliers() -> None:
    values = np.random.default_rng(0).normal(size=200000)
    values[:3] = (-20, 15, 30)
    chosen = Entropy().choose(seen(values), BITS8)
    assert 3 < chosen.high < 10
    assert chosen.low == -chosen.high


def test_entropy_of_16_bits_loses_nothing_anyway() -> None:
    statistics = seen(heavy())
    assert Entropy().choose(statistics, BITS16) == Range(statistics.low, statistics.high)


def test_only_ends_that_clip_are_not_widened() -> None:
    assert Range(-1, 2, clips_high=True).widened(1.25) == Range(-1.25, 2, clips_high=True)

import json
import math

import numpy as np
import pytest

from modelc.errors import ModelcError
from modelc.verify.network import (
    NetworkThresholds,
    NetworkVerification,
    compare_outputs,
    network_checks,
)

LIMITS = NetworkThresholds(20.0, 0.99, 0.9)
RANDOM = np.random.default_rng(0)


def pair(wanted: np.ndarray, found: np.ndarray) -> list[tuple[dict, dict]]:  # type: ignore[type-arg]
    return [({"y": wanted}, {"y": found, "other": found})]


def test_known_figures() -> None:
    wanted = np.array([[3.0, 4.0]], np.float32)
    (metrics,) = compare_outputs(pair(wanted, np.array([[3.0, 4.5]], np.float32)))
    assert metrics.sqnr_db == pytest.approx(10 * math.log10(25 / 0.25))
    assert metrics.max_error == 0.5 and metrics.top1 == 1.0 and metrics.equal == 0.5
    assert metrics.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))


def test_samples_are_taken_together() -> None:
    wanted = RANDOM.normal(size=(3, 2, 8)).astype(np.float32)
    found = wanted + RANDOM.normal(size=wanted.shape).astype(np.float32) * 0.01
    pairs = [({"y": a}, {"y": b}) for a, b in zip(wanted, found, strict=True)]
    (metrics,) = compare_outputs(iter(pairs))
    noise = np.square(wanted - found, dtype=np.float64).sum()
    signal = np.square(wanted, dtype=np.float64).sum()
    assert metrics.sqnr_db == pytest.approx(10 * math.log10(signal / noise), rel=1e-5)
    assert metrics.samples == 3


def test_equal_outputs() -> None:
    mask = np.array([[0.0, -np.inf]], np.float32)
    (metrics,) = compare_outputs(pair(mask, mask))
    assert metrics.sqnr_db == math.inf and metrics.max_error == 0 and metrics.cosine == 1
    assert all(check.passed for check in network_checks([metrics], LIMITS))
    assert metrics.document()["sqnr_db"] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_fails(bad: float) -> None:
    wanted = np.array([[1.0, 2.0]], np.float32)
    (metrics,) = compare_outputs(pair(wanted, np.array([[1.0, bad]], np.float32)))
    assert not any(check.passed for check in network_checks([metrics], LIMITS)[:2])
    json.dumps(metrics.document(), allow_nan=False)


def test_what_counts_as_classes() -> None:
    def top1(shape: tuple[int, ...], dtype: type = np.float32) -> float | None:
        (metrics,) = compare_outputs(pair(np.ones(shape, dtype), np.ones(shape, dtype)))
        return metrics.top1

    assert top1((1, 10)) == 1.0
    assert top1((1, 1)) is None and top1((1, 4, 10)) is None and top1((1, 10), np.int64) is None


def test_integers_are_compared_one_by_one() -> None:
    wanted, found = np.arange(100), np.arange(100)
    found[:2] = -1
    (metrics,) = compare_outputs(pair(wanted, found))
    (check,) = network_checks([metrics], LIMITS)
    assert (check.name, check.passed) == ("y.equal", False)
    assert network_checks([metrics], NetworkThresholds(20, 0.98))[0].passed


def test_thresholds() -> None:
    wanted = np.array([[1.0, 0.0, 0.9]], np.float32)
    (metrics,) = compare_outputs(pair(wanted, np.array([[0.9, 0.0, 1.0]], np.float32)))
    checks = {check.name: check for check in network_checks([metrics], LIMITS)}
    assert {name: check.passed for name, check in checks.items()} == {
        "y.sqnr": False,
        "y.cosine": True,
        "y.top1_agreement": False,
    }
    assert checks["y.sqnr"].detail == "19.6 dB, at least 20 dB"
    assert len(network_checks([metrics], NetworkThresholds(20, 0.99))) == 2
    found = NetworkVerification("t", "r", (metrics,), tuple(checks.values()), 1)
    assert not found.passed
    assert found.document()["outputs"]["y"]["top1_agreement"] == 0.0


def test_other_outputs() -> None:
    one = np.ones((1, 2), np.float32)
    with pytest.raises(ModelcError, match=r"the output y \[1, 2\] came out as nothing"):
        compare_outputs([({"y": one}, {})])
    with pytest.raises(ModelcError, match=r"came out as \[2, 1\]"):
        compare_outputs(pair(one, one.T))
    with pytest.raises(ModelcError, match="nothing to compare"):
        compare_outputs([])

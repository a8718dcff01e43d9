"""Metrics against PyTorch's own cross entropy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.verify.evaluate import evaluate, windows
from modelc.verify.metrics import perplexity, sqnr_db, top1_agreement
from modelc.verify.report import Thresholds, Verification, measure, threshold_checks


def test_perplexity_is_pytorchs_cross_entropy() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 20, (50, 64)).astype(np.float32)
    targets = rng.integers(0, 64, 50)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits).double(), torch.from_numpy(targets)
    ).exp()
    assert perplexity(logits, targets.tolist()) == pytest.approx(float(expected), rel=1e-9)


def test_sqnr_of_known_noise() -> None:
    signal = np.ones((4, 8), np.float32)
    assert sqnr_db(signal, signal) == float("inf")
    assert sqnr_db(signal, signal * 1.1) == pytest.approx(20.0, abs=1e-3)


def test_top1_agreement_counts_rows() -> None:
    a = np.eye(4, dtype=np.float32)
    b = a[[0, 1, 3, 3]]
    assert top1_agreement(a, b) == 0.75


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 20), st.data())
def test_every_token_but_the_first_is_scored_once(count: int, window: int, data) -> None:
    stride = data.draw(st.integers(1, window - 1))
    scored = [
        token
        for part in windows(count, window, stride)
        for token in range(part.score_from, part.stop)
    ]
    assert scored == list(range(1, count))
    assert all(part.stop - part.start <= window for part in windows(count, window, stride))
    assert all(part.score_from > part.start for part in windows(count, window, stride))


def test_strided_perplexity_of_a_model_without_memory() -> None:
    """A bigram model doesn't see its context, so windows must not change its perplexity."""
    rng = np.random.default_rng(1)
    table = rng.normal(size=(16, 16)).astype(np.float32)
    tokens = rng.integers(0, 16, 101).tolist()

    def logits(ids):
        return table[np.asarray(ids)]

    whole = perplexity(logits(tokens[:-1]), tokens[1:])
    result = evaluate(logits, tokens, window=16, stride=8)
    assert result.tokens == 100
    assert result.perplexity == pytest.approx(whole, rel=1e-9)


def test_a_text_of_one_token_is_refused() -> None:
    with pytest.raises(BadInput):
        evaluate(lambda ids: np.zeros((len(ids), 4), np.float32), [1], 8, 4)


def test_thresholds_decide() -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(32, 10)).astype(np.float32)
    tokens = rng.integers(0, 10, 32).tolist()
    limits = Thresholds(min_sqnr_db=30, min_top1=0.9, max_perplexity_ratio=1.01)
    good = measure(reference, reference + np.float32(1e-4), tokens)
    bad = measure(reference, reference[::-1], tokens)
    assert all(check.passed for check in threshold_checks(good, limits))
    assert not all(check.passed for check in threshold_checks(bad, limits))
    broken = measure(reference, np.full_like(reference, np.nan), tokens)
    assert not any(check.passed for check in threshold_checks(broken, limits)[:1])
    assert not Verification("cpu", "onnxruntime", broken, threshold_checks(broken, limits)).passed


def test_json_has_no_infinity() -> None:
    reference = np.random.default_rng(3).normal(size=(8, 10)).astype(np.float32)
    metrics = measure(reference, reference, [1] * 8)
    document = Verification("cpu", "onnxruntime", metrics, ()).document()
    assert document["metrics"]["sqnr_db"] is None
    assert document["passed"] is True

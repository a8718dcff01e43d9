"""Metrics against PyTorch's own cross entropy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.verify.evaluate import evaluate, evaluate_windows, windows
from modelc.verify.metrics import (
    cosine_similarity,
    kl_divergences,
    perplexity,
    sqnr_db,
    top1_agreement,
    top_agreement,
)
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


def test_kl_divergence_is_pytorchs() -> None:
    rng = np.random.default_rng(4)
    wanted, found = (rng.normal(0, 5, (20, 64)).astype(np.float32) for _ in range(2))
    log_p, log_q = (torch.from_numpy(x).double().log_softmax(-1) for x in (wanted, found))
    expected = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    assert np.allclose(kl_divergences(wanted, found), expected.numpy(), rtol=1e-9)
    assert kl_divergences(wanted, wanted).tolist() == [0.0] * 20


def test_top_agreement_is_the_share_of_common_tokens() -> None:
    rng = np.random.default_rng(5)
    wanted, found = (rng.normal(size=(30, 50)).astype(np.float32) for _ in range(2))
    top = [torch.from_numpy(rows).topk(5).indices.tolist() for rows in (wanted, found)]
    shares = [len(set(a) & set(b)) / 5 for a, b in zip(*top, strict=True)]
    assert top_agreement(wanted, found, 5) == pytest.approx(np.mean(shares))
    assert top_agreement(wanted, found, 1) == top1_agreement(wanted, found)
    assert top_agreement(wanted, wanted, 5) == 1.0
    assert top_agreement(wanted, np.full_like(wanted, np.nan), 5) == 0.0
    assert top_agreement(wanted[:, :3], found[:, :3], 5) == 1.0  # no more tokens than that


def test_cosine_similarity_is_pytorchs() -> None:
    rng = np.random.default_rng(6)
    wanted, found = (rng.normal(size=(9, 32)).astype(np.float32) for _ in range(2))
    expected = torch.nn.functional.cosine_similarity(
        torch.from_numpy(wanted).double(), torch.from_numpy(found).double()
    ).mean()
    assert cosine_similarity(wanted, found) == pytest.approx(float(expected), rel=1e-9)
    nothing = np.zeros_like(wanted)
    assert (cosine_similarity(nothing, nothing), cosine_similarity(nothing, wanted)) == (1.0, 0.0)


@settings(max_examples=60)
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


def test_windows_add_up_to_what_the_whole_gives() -> None:
    """For models without memory, every measure of scored rows is that of the text at once."""
    rng = np.random.default_rng(7)
    tables = [rng.normal(size=(16, 16)).astype(np.float32) for _ in range(2)]
    tokens = rng.integers(0, 16, 57)
    wanted, found = (table[tokens] for table in tables)
    parts = list(windows(57, 10, 5))
    sides = [[rows[part.start : part.stop] for part in parts] for rows in (found, wanted)]
    metrics = {"hits": lambda reference, measured, ids: (measured.argmax(-1) == ids).mean()}
    result = evaluate_windows(tokens.tolist(), parts, *sides, metrics)
    wanted, found, targets = wanted[:-1], found[:-1], tokens[1:]
    distance = result.float_model
    assert distance is not None
    assert result.perplexity == pytest.approx(perplexity(found, targets.tolist()))
    assert distance.perplexity == pytest.approx(perplexity(wanted, targets.tolist()))
    assert distance.kl_divergence == pytest.approx(kl_divergences(wanted, found).mean())
    assert distance.top1_agreement == pytest.approx(top1_agreement(wanted, found))
    assert distance.top5_agreement == pytest.approx(top_agreement(wanted, found, 5))
    assert distance.sqnr_db == pytest.approx(sqnr_db(wanted, found))
    assert distance.metrics["hits"] == pytest.approx((found.argmax(-1) == targets).mean())


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
    assert document["metrics"]["kl_divergence"] == 0.0
    assert document["metrics"]["top5_agreement"] == 1.0
    assert document["passed"] is True

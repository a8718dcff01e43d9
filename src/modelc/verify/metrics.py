"""How far a compiled model's logits are from the reference's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sqnr_db(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the signal-to-quantisation-noise ratio in dB over all elements (inf if equal)."""
    return decibels(*signal_and_noise(reference, measured))


def signal_and_noise(reference: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Return the sums of squares of the reference and of what `measured` is off by."""
    signal = noise = 0.0
    for wanted, found in zip(reference, measured, strict=True):  # a row at a time in float64
        signal += float(np.square(wanted, dtype=np.float64).sum())
        noise += float(np.square(np.subtract(wanted, found, dtype=np.float64)).sum())
    return signal, noise


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two powers in dB (inf without noise)."""
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def top1_agreement(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the share of rows ([tokens, vocab]) whose largest logit is at the same token."""
    return float(np.mean(reference.argmax(-1) == measured.argmax(-1)))


def top_agreement(reference: np.ndarray, measured: np.ndarray, count: int) -> float:
    """Return how many of the reference's `count` likeliest tokens are among the `count` likeliest
    that were measured: the mean share over rows ([tokens, vocab]), 0 for a row with NaN."""
    count = min(count, reference.shape[-1])
    shares = [
        0.0 if np.isnan(found).any() else len(_top(wanted, count) & _top(found, count)) / count
        for wanted, found in zip(reference, measured, strict=True)
    ]
    return float(np.mean(shares))


def _top(logits: np.ndarray, count: int) -> set[int]:
    return set(np.argpartition(logits, -count)[-count:].tolist())


def kl_divergences(reference: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the Kullback-Leibler divergence of each row's distribution from the reference's,
    sum p (ln p - ln q) in nats, float64 [tokens]; logits are [tokens, vocab]."""
    result = np.empty(len(reference))
    for index, (wanted, found) in enumerate(zip(reference, measured, strict=True)):
        log_p, log_q = _log_softmax(wanted), _log_softmax(found)
        result[index] = np.dot(np.exp(log_p), log_p - log_q)
    return result


def cosine_similarity(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the mean cosine of the angle between rows ([rows, width]), as embeddings are compared;
    rows of zeros have 1 with each other and 0 with others."""
    wanted, found = (rows.astype(np.float64) for rows in (reference, measured))
    lengths = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(found, axis=-1)
    products = np.einsum("rw,rw->r", wanted, found)
    equal = np.all(wanted == found, axis=-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.where(lengths == 0, equal, products / lengths).mean())


def negative_log_likelihoods(logits: np.ndarray, targets: Sequence[int]) -> np.ndarray:
    """Return -ln p(target) of each row, float64 [tokens]; logits are [tokens, vocab]."""
    result = np.empty(len(targets))
    for index, (row, target) in enumerate(zip(logits, targets, strict=True)):
        result[index] = -_log_softmax(row)[target]
    return result


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return ln p of one row in float64; of all rows it would take twice the logits."""
    wide = logits.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide


def perplexity(logits: np.ndarray, targets: Sequence[int]) -> float:
    """Return exp of the mean negative log-likelihood of the targets."""
    return float(np.exp(negative_log_likelihoods(logits, targets).mean()))

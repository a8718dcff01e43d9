"""How far a compiled model's logits are from the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

BLOCK: Final = 1 << 20
"""Elements that are computed in float64 at once: of all rows it would take twice the logits."""


def sqnr_db(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the signal-to-quantisation-noise ratio in dB over all elements (inf if equal)."""
    return decibels(*signal_and_noise(reference, measured))


def signal_and_noise(reference: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Return the sums of squares of the reference and of what `measured` is off by."""
    signal = noise = 0.0
    for wanted, found in _blocks(reference, measured):
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
    shares = []
    for wanted, found in _blocks(reference, measured):
        common = _top(wanted, count)[:, :, None] == _top(found, count)[:, None, :]
        whole = ~np.isnan(found).any(-1)
        shares.append(np.where(whole, common.sum((1, 2)) / count, 0.0))
    return float(np.concatenate(shares).mean())


def _top(logits: np.ndarray, count: int) -> np.ndarray:
    return np.argpartition(logits, -count)[:, -count:]


def kl_divergences(reference: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the Kullback-Leibler divergence of each row's distribution from the reference's,
    sum p (ln p - ln q) in nats, float64 [tokens]; logits are [tokens, vocab]."""
    parts = []
    for wanted, found in _blocks(reference, measured):
        log_p, log_q = _log_softmax(wanted), _log_softmax(found)
        parts.append(np.einsum("tv,tv->t", np.exp(log_p), log_p - log_q))
    return np.concatenate(parts)


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
    parts = [
        -_log_softmax(rows)[np.arange(len(rows)), wanted]
        for rows, wanted in _blocks(logits, np.asarray(targets, np.int64))
    ]
    return np.concatenate(parts)


def _blocks(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows of both, `BLOCK` elements of the first at a time, at least once.

    Raises:
        ValueError: one has more rows.
    """
    first, second = np.asarray(first), np.asarray(second)  # mapped files are slow in small pieces
    if len(first) != len(second):
        raise ValueError(f"{len(first)} rows and {len(second)}")
    rows = max(1, BLOCK * len(first) // max(1, first.size))
    for start in range(0, max(1, len(first)), rows):
        yield first[start : start + rows], second[start : start + rows]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return ln p of every row in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(-1, keepdims=True))
    return wide


def perplexity(logits: np.ndarray, targets: Sequence[int]) -> float:
    """Return exp of the mean negative log-likelihood of the targets."""
    return float(np.exp(negative_log_likelihoods(logits, targets).mean()))

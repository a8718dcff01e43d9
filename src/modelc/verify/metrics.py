"""How far a compiled model's logits are from the reference's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sqnr_db(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the signal-to-quantisation-noise ratio in dB over all elements (inf if equal)."""
    signal = noise = 0.0
    for wanted, found in zip(reference, measured, strict=True):  # a row at a time in float64
        signal += float(np.square(wanted, dtype=np.float64).sum())
        noise += float(np.square(np.subtract(wanted, found, dtype=np.float64)).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def top1_agreement(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the share of rows ([tokens, vocab]) whose largest logit is at the same token."""
    return float(np.mean(reference.argmax(-1) == measured.argmax(-1)))


def negative_log_likelihoods(logits: np.ndarray, targets: Sequence[int]) -> np.ndarray:
    """Return -ln p(target) of each row, float64 [tokens]; logits are [tokens, vocab]."""
    result = np.empty(len(targets))
    for index, (row, target) in enumerate(zip(logits, targets, strict=True)):
        wide = row.astype(np.float64)  # a row at a time: all of them would take twice the logits
        wide -= wide.max()
        result[index] = np.log(np.exp(wide).sum()) - wide[target]
    return result


def perplexity(logits: np.ndarray, targets: Sequence[int]) -> float:
    """Return exp of the mean negative log-likelihood of the targets."""
    return float(np.exp(negative_log_likelihoods(logits, targets).mean()))

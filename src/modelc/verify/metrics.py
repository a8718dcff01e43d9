"""How far a compiled model's logits are from the reference's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sqnr_db(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the signal-to-quantisation-noise ratio in dB over all elements (inf if equal)."""
    signal = np.square(reference, dtype=np.float64).sum()
    noise = np.square(reference.astype(np.float64) - measured).sum()
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def top1_agreement(reference: np.ndarray, measured: np.ndarray) -> float:
    """Return the share of rows ([tokens, vocab]) whose largest logit is at the same token."""
    return float(np.mean(reference.argmax(-1) == measured.argmax(-1)))


def negative_log_likelihoods(logits: np.ndarray, targets: Sequence[int]) -> np.ndarray:
    """Return -ln p(target) of each row, float64 [tokens]; logits are [tokens, vocab]."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    log_sum = np.log(np.exp(wide).sum(-1))
    picked = wide[np.arange(len(targets)), np.asarray(targets)]
    result: np.ndarray = log_sum - picked
    return result


def perplexity(logits: np.ndarray, targets: Sequence[int]) -> float:
    """Return exp of the mean negative log-likelihood of the targets."""
    return float(np.exp(negative_log_likelihoods(logits, targets).mean()))

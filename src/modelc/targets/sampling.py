"""Choosing the next token from logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelc.targets.runtime import Sampling


class Sampler:
    """Draws tokens as a `Sampling` says; the same seed and logits give the same tokens.

    The order is the usual one: repetition penalty, temperature, top-k, top-p.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: np.ndarray, history: Sequence[int] = ()) -> int:
        """Return a token id for logits float [vocab]; `history` is penalised for repetition."""
        options = self.sampling
        if options.repetition_penalty != 1.0 and len(history):
            logits = _penalised(logits, history, options.repetition_penalty)
        if options.temperature == 0.0:
            return int(logits.argmax())
        scaled = logits.astype(np.float64) / options.temperature
        order = _candidates(scaled, options.top_k)
        weights = np.exp(scaled[order] - scaled[order[0]])
        weights /= weights.sum()
        if options.top_p < 1.0:
            # The smallest set of most likely tokens whose mass reaches top_p.
            kept = int(np.searchsorted(np.cumsum(weights), options.top_p)) + 1
            order, weights = order[:kept], weights[:kept] / weights[:kept].sum()
        return int(self._random.choice(order, p=weights))


def _candidates(scaled: np.ndarray, top_k: int) -> np.ndarray:
    """Return token ids, most likely first, the lower id first among equals."""
    if 0 < top_k < scaled.size:
        chosen = np.sort(np.argpartition(-scaled, top_k - 1)[:top_k])
        best: np.ndarray = chosen[np.argsort(-scaled[chosen], kind="stable")]
        return best
    return np.argsort(-scaled, kind="stable")


def _penalised(logits: np.ndarray, history: Sequence[int], penalty: float) -> np.ndarray:
    """Divide positive and multiply negative logits of seen tokens (CTRL, arXiv:1909.05858)."""
    seen = np.unique(np.asarray(history))
    result = logits.astype(np.float32, copy=True)
    values = result[seen]
    result[seen] = np.where(values > 0, values / penalty, values * penalty)
    return result

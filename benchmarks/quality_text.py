"""The text that every engine of `quality.py` reads, and what its logits say of it.

Needs numpy alone: interpreters without modelc use it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Text:
    """Token ids, cut alike for everyone.

    Attributes:
        windows: int64 [n, window] of the held-out text, each `stride` after the one before.
        stride: of each window but the first only the last `stride` tokens are scored, so that
            they have `window - stride` before them and every token but the first counts once.
        calibration: int64 [m, window], another text, without overlap.
    """

    windows: np.ndarray
    stride: int
    calibration: np.ndarray

    @property
    def targets(self) -> np.ndarray:
        """The scored tokens, int64 [scored]."""
        return np.concatenate([self.windows[0, 1:], *self.windows[1:, -self.stride :]])

    def logits(self, run: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Float32 [scored, vocab]: the rows that predict `targets`.

        Args:
            run: maps int64 [window] to logits [window, vocab].
        """
        first, *others = (np.asarray(run(window), np.float32) for window in self.windows)
        return np.concatenate([first[:-1], *(rows[-self.stride - 1 : -1] for rows in others)])

    def save(self, path: Path) -> None:
        np.savez(path, windows=self.windows, stride=self.stride, calibration=self.calibration)

    @classmethod
    def load(cls, path: str | Path) -> Text:
        with np.load(path) as stored:
            return cls(stored["windows"], int(stored["stride"]), stored["calibration"])


def cut(held_out: np.ndarray, calibration: np.ndarray, window: int, stride: int, most: int) -> Text:
    """Cut at most `most` held-out tokens, and all of the calibration text, into whole windows."""
    count = (min(most, len(held_out)) - window) // stride + 1
    starts = np.arange(count)[:, None] * stride
    whole = len(calibration) // window * window
    return Text(
        held_out[starts + np.arange(window)], stride, calibration[:whole].reshape(-1, window)
    )


@dataclass(frozen=True)
class Score:
    """What logits are worth.

    Attributes:
        perplexity: of the scored tokens.
        error: standard error of the logarithm of its ratio to the float model's, the tokens being
            a sample.
        top1: share of the positions where the float model's most likely token is also theirs.
        divergence: mean KL(float || theirs) in nats.
    """

    perplexity: float
    error: float
    top1: float
    divergence: float


def score(text: Text, logits: np.ndarray, wanted: np.ndarray) -> Score:
    """Score logits [scored, vocab] beside those of the float model."""
    targets = text.targets
    losses, gains = [], []
    divergence = agreed = 0.0
    for start in range(0, len(targets), 512):  # float64 of all would not fit everywhere
        part = slice(start, start + 512)
        theirs, ours = _log_softmax(logits[part]), _log_softmax(wanted[part])
        losses.append(-np.take_along_axis(theirs, targets[part, None], axis=1)[:, 0])
        gains.append(np.take_along_axis(ours - theirs, targets[part, None], axis=1)[:, 0])
        divergence += (np.exp(ours) * (ours - theirs)).sum()
        agreed += (logits[part].argmax(axis=1) == wanted[part].argmax(axis=1)).sum()
    count = len(targets)
    return Score(
        perplexity=float(np.exp(np.concatenate(losses).mean())),
        error=float(np.concatenate(gains).std() / np.sqrt(count)),
        top1=float(agreed / count),
        divergence=float(divergence / count),
    )


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

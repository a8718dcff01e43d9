"""Perplexity of a text longer than the context, by overlapping windows.

The text is cut into windows of `window` tokens that advance by `stride`; in each window only the
tokens that the previous one did not score count, so every token but the first is scored once, with
at least `window - stride` tokens of context after the first window. This is the usual strided
evaluation (Hugging Face's "Perplexity of fixed-length models").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modelc.errors import BadInput
from modelc.verify.metrics import negative_log_likelihoods


@dataclass(frozen=True)
class Evaluation:
    """Perplexity over `tokens` scored tokens."""

    perplexity: float
    tokens: int


@dataclass(frozen=True)
class Window:
    """Tokens [start, stop) of a text, of which those from `score_from` on are scored."""

    start: int
    stop: int
    score_from: int


def windows(count: int, window: int, stride: int) -> Iterator[Window]:
    """Yield the windows of a text of `count` tokens; the first token is never scored."""
    scored = 1
    start = 0
    while scored < count:
        stop = min(start + window, count)
        yield Window(start, stop, scored)
        scored = stop
        start += stride


def evaluate(
    logits: Callable[[Sequence[int]], np.ndarray],
    token_ids: Sequence[int],
    window: int,
    stride: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Return the strided perplexity of a text.

    Args:
        logits: maps n token ids to float32 [n, vocab].
        token_ids: the text, beginning-of-text token included if the model wants one.
        window: tokens per window, at least 2 and at most the context length.
        stride: tokens between window starts, at most `window`.
        progress: called with tokens scored so far and in all.

    Raises:
        BadInput: fewer than two tokens.
    """
    if len(token_ids) < 2:
        raise BadInput("a text of fewer than two tokens has no perplexity")
    total = 0.0
    for part in windows(len(token_ids), window, stride):
        rows = logits(token_ids[part.start : part.stop])
        first = part.score_from - part.start
        targets = token_ids[part.score_from : part.stop]
        total += float(negative_log_likelihoods(rows[first - 1 : -1], targets).sum())
        progress(part.stop - 1, len(token_ids) - 1)
    count = len(token_ids) - 1
    return Evaluation(float(np.exp(total / count)), count)

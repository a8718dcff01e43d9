"""Perplexity of a text longer than the context, by overlapping windows, and how far a model is from
the float model there.

The text is cut into windows of `window` tokens that advance by `stride`; in each window only the
tokens that the previous one did not score count, so every token but the first is scored once, with
at least `window - stride` tokens of context after the first window. This is the usual strided
evaluation (Hugging Face's "Perplexity of fixed-length models").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput
from modelc.verify.metrics import (
    decibels,
    kl_divergences,
    negative_log_likelihoods,
    signal_and_noise,
    top1_agreement,
    top_agreement,
)
from modelc.verify.report import finite

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""Called with the float model's logits and the measured ones, float32 [n, vocab], and the tokens
that they predict, int64 [n]."""

NO_METRICS: Final[Mapping[str, Metric]] = MappingProxyType({})


@dataclass(frozen=True)
class Distance:
    """How far a model is from the float model, over the scored tokens.

    Attributes:
        perplexity: of the float model.
        kl_divergence: mean, in nats.
        metrics: the user's own by name: means over windows, by the tokens that each scores.
    """

    perplexity: float
    kl_divergence: float
    top1_agreement: float
    top5_agreement: float
    sqnr_db: float
    metrics: Mapping[str, float]

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        values = {name: finite(value) for name, value in vars(self).items() if name != "metrics"}
        own = {name: finite(value) for name, value in self.metrics.items()}
        return {**values, "metrics": own}


@dataclass(frozen=True)
class Evaluation:
    """Perplexity over `tokens` scored tokens; `float_model` where that was at hand."""

    perplexity: float
    tokens: int
    float_model: Distance | None = None

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        plain = {"perplexity": finite(self.perplexity), "tokens": self.tokens}
        return {**plain, "float": self.float_model.document()} if self.float_model else plain


@dataclass(frozen=True)
class Window:
    """Tokens [start, stop) of a text, of which those from `score_from` on are scored."""

    start: int
    stop: int
    score_from: int

    def scored(self, logits: np.ndarray) -> np.ndarray:
        """Return the rows of the window's logits that predict the tokens that it scores."""
        return logits[self.score_from - self.start - 1 : self.stop - self.start - 1]


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
    parts = list(windows(len(token_ids), window, stride))
    measured = (logits(token_ids[part.start : part.stop]) for part in parts)
    return evaluate_windows(token_ids, parts, measured, progress=progress)


def evaluate_windows(
    token_ids: Sequence[int],
    parts: Sequence[Window],
    measured: Iterable[np.ndarray],
    reference: Iterable[np.ndarray] | None = None,
    metrics: Mapping[str, Metric] = NO_METRICS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Return the perplexity of a text from the logits of its windows, float32 [tokens, vocab] each,
    and with the float model's the distance between the two.

    Raises:
        BadInput: fewer than two tokens.
    """
    if len(token_ids) < 2:
        raise BadInput(
            "a text of fewer than two tokens has no perplexity", hint="give a longer --text"
        )
    ids, total = np.asarray(token_ids, np.int64), _Sums(metrics)
    pairs = zip(
        parts, measured, repeat(None, len(parts)) if reference is None else reference, strict=True
    )
    for part, found, wanted in pairs:
        targets = ids[part.score_from : part.stop]
        total.add(part.scored(found), part.scored(wanted) if wanted is not None else None, targets)
        progress(part.stop - 1, len(ids) - 1)
    return total.evaluation()


class _Sums:
    """What is added up over windows."""

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self._metrics = metrics
        self._tokens = 0
        self._sums: dict[str, float] = {}
        self._has_reference = False

    def add(self, found: np.ndarray, wanted: np.ndarray | None, targets: np.ndarray) -> None:
        """Take in rows and the tokens that they predict."""
        count = len(targets)
        self._tokens += count
        self._add("nll", negative_log_likelihoods(found, targets.tolist()).sum())
        if wanted is None:
            return
        self._has_reference = True
        signal, noise = signal_and_noise(wanted, found)
        self._add("reference", negative_log_likelihoods(wanted, targets.tolist()).sum())
        self._add("kl", kl_divergences(wanted, found).sum())
        self._add("top1", count * top1_agreement(wanted, found))
        self._add("top5", count * top_agreement(wanted, found, 5))
        self._add("signal", signal)
        self._add("noise", noise)
        for name, metric in self._metrics.items():
            self._add(f"metric {name}", count * metric(wanted, found, targets))

    def evaluation(self) -> Evaluation:
        perplexity = float(np.exp(self._mean("nll")))
        return Evaluation(perplexity, self._tokens, self._distance())

    def _distance(self) -> Distance | None:
        if not self._has_reference:
            return None
        return Distance(
            perplexity=float(np.exp(self._mean("reference"))),
            kl_divergence=self._mean("kl"),
            top1_agreement=self._mean("top1"),
            top5_agreement=self._mean("top5"),
            sqnr_db=decibels(self._sums["signal"], self._sums["noise"]),
            metrics={name: self._mean(f"metric {name}") for name in self._metrics},
        )

    def _add(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(value)

    def _mean(self, name: str) -> float:
        return self._sums[name] / self._tokens

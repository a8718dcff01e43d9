"""The verdict on a bundle: metrics, and checks with the thresholds they were held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelc.verify.metrics import (
    kl_divergences,
    perplexity,
    sqnr_db,
    top1_agreement,
    top_agreement,
)


@dataclass(frozen=True)
class Thresholds:
    """The least that a bundle must reach to ship; None is no threshold."""

    min_sqnr_db: float
    min_top1: float
    max_perplexity_ratio: float
    max_kl_divergence: float | None = None


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what was found, against what."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Metrics:
    """Bundle against reference on the verification text; the divergence is a mean, in nats."""

    sqnr_db: float
    top1_agreement: float
    top5_agreement: float
    kl_divergence: float
    reference_perplexity: float
    bundle_perplexity: float
    tokens: int


@dataclass(frozen=True)
class Verification:
    """The result of `modelc verify`."""

    target: str
    runtime: str
    metrics: Metrics
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        metrics = self.metrics
        return {
            "target": self.target,
            "passed": self.passed,
            "metrics": {
                "sqnr_db": finite(metrics.sqnr_db),
                "top1_agreement": metrics.top1_agreement,
                "top5_agreement": metrics.top5_agreement,
                "kl_divergence": finite(metrics.kl_divergence),
                "perplexity": {
                    "reference": finite(metrics.reference_perplexity),
                    "bundle": finite(metrics.bundle_perplexity),
                },
                "tokens": metrics.tokens,
            },
            "checks": [vars(check) for check in self.checks],
            "runtime": self.runtime,
        }


def finite(value: float) -> float | None:
    """JSON has neither infinity, as of identical logits, nor NaN: they are null."""
    return value if math.isfinite(value) else None


def measure(reference: np.ndarray, measured: np.ndarray, token_ids: Sequence[int]) -> Metrics:
    """Compare logits float32 [tokens, vocab] of the same token ids."""
    targets = token_ids[1:]
    return Metrics(
        sqnr_db(reference, measured),
        top1_agreement(reference, measured),
        top_agreement(reference, measured, 5),
        float(kl_divergences(reference, measured).mean()),
        perplexity(reference[:-1], targets),
        perplexity(measured[:-1], targets),
        len(token_ids),
    )


def threshold_checks(metrics: Metrics, limits: Thresholds) -> tuple[Check, ...]:
    """Hold metrics to their thresholds."""
    ratio = metrics.bundle_perplexity / metrics.reference_perplexity
    checks = (
        Check(
            "sqnr",
            metrics.sqnr_db >= limits.min_sqnr_db,
            f"{metrics.sqnr_db:.1f} dB, at least {limits.min_sqnr_db:g} dB",
        ),
        Check(
            "top1_agreement",
            metrics.top1_agreement >= limits.min_top1,
            f"{metrics.top1_agreement:.3f}, at least {limits.min_top1:g}",
        ),
        Check(
            "perplexity_ratio",
            bool(np.isfinite(ratio)) and ratio <= limits.max_perplexity_ratio,
            f"{ratio:.4f}, at most {limits.max_perplexity_ratio:g}",
        ),
    )
    if limits.max_kl_divergence is None:
        return checks
    divergence = Check(
        "kl_divergence",
        metrics.kl_divergence <= limits.max_kl_divergence,
        f"{metrics.kl_divergence:.5f}, at most {limits.max_kl_divergence:g}",
    )
    return (*checks, divergence)

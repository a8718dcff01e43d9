"""Bundles and schemes of one model side by side: what each takes, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.tokenizer import SETTINGS, TOKENIZER
from modelc.decoder.check import linear_shapes, plain_shapes
from modelc.decoder.config import DecoderConfig
from modelc.pipeline.estimate import estimate_source
from modelc.pipeline.loss import TensorLoss
from modelc.pipeline.plans import RECIPE
from modelc.pipeline.report import REPORT
from modelc.pipeline.simulation import Simulated, weight_bits
from modelc.pipeline.steps import CONFIG, VERIFICATION, VERIFICATION_DATA
from modelc.verify.evaluate import Distance, Evaluation

_NOT_LOADED: Final = frozenset(
    {TOKENIZER, SETTINGS, CONFIG, VERIFICATION, VERIFICATION_DATA, RECIPE, REPORT}
)


@dataclass(frozen=True)
class Candidate:
    """One side.

    Attributes:
        size: bytes of the weights under a scheme, or of what a bundle's target loads.
        numbers: how many the model has in its matrices.
        losses: of its tensors, by name, where they could be measured.
    """

    name: str
    size: int
    numbers: int
    evaluation: Evaluation
    losses: Mapping[str, TensorLoss] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.size / self.numbers

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "bytes": self.size,
            "bits_per_weight": self.bits_per_weight,
            **self.evaluation.document(),
        }


@dataclass(frozen=True)
class Comparison:
    """Two candidates, the second against the first."""

    first: Candidate
    second: Candidate

    def modules(self, count: int) -> list[dict[str, Any]]:
        """Return the modules whose outputs' SQNR differs most between the two."""
        first, second = self.first.losses, self.second.losses
        shared = [name for name in first.keys() & second.keys() if _is_output(first[name])]
        rows = {name: (first[name].sqnr_db, second[name].sqnr_db) for name in shared}
        known = {name: pair for name, pair in rows.items() if all(map(math.isfinite, pair))}
        ordered = sorted(known, key=lambda name: (-abs(known[name][1] - known[name][0]), name))
        return [
            {"module": first[name].module, "first_db": known[name][0], "second_db": known[name][1]}
            for name in ordered[:count]
        ]

    def document(self, modules: int) -> dict[str, Any]:
        """Return the JSON form, with so many modules."""
        sides = [self.first.document(), self.second.document()]
        return {"candidates": sides, "modules": self.modules(modules)}


def of_scheme(
    name: str, simulated: Simulated, evaluation: Evaluation, losses: Sequence[TensorLoss]
) -> Candidate:
    """Return a scheme as a candidate."""
    numbers = sum(prod(shape) for shape in simulated.shapes.values())
    by_name = {loss.name: loss for loss in losses}
    return Candidate(name, _weight_bytes(simulated), numbers, evaluation, by_name)


def of_bundle(
    name: str,
    manifest: Manifest,
    config: DecoderConfig,
    evaluation: Evaluation | None = None,
    losses: Sequence[TensorLoss] = (),
) -> Candidate:
    """Return a bundle as a candidate; without an evaluation by what it was verified with."""
    shapes = [*plain_shapes(config), *linear_shapes(config)]
    numbers = sum(prod(shape) for _, shape in shapes if len(shape) > 1)
    loaded = (
        file.size
        for path, file in manifest.files.items()
        if path not in _NOT_LOADED and not path.startswith("twins/")
    )
    found = evaluation or _verified(manifest.metrics)
    return Candidate(name, sum(loaded), numbers, found, {loss.name: loss for loss in losses})


def _weight_bytes(simulated: Simulated) -> int:
    kinds, shapes = simulated.kinds, simulated.shapes
    if kinds:
        bits = (prod(shapes[module]) * weight_bits(module, kind) for module, kind in kinds.items())
        return round(sum(bits) / 8)
    estimate = estimate_source(simulated.job.source, simulated.job.recipe)
    return sum(part.weights for part in estimate.parts)


def _verified(metrics: Mapping[str, Any]) -> Evaluation:
    """Return what a manifest says; what its modelc did not measure is not a number."""

    def known(value: Any) -> float:
        return math.nan if value is None else float(value)

    perplexity = metrics["perplexity"]
    distance = Distance(
        known(perplexity["reference"]),
        known(metrics.get("kl_divergence")),
        known(metrics["top1_agreement"]),
        known(metrics.get("top5_agreement")),
        known(metrics["sqnr_db"]),
        {},
    )
    return Evaluation(known(perplexity["bundle"]), int(metrics["tokens"]), distance)


def _is_output(loss: TensorLoss) -> bool:
    return loss.name in (loss.module, "logits")

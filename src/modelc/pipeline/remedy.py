"""What would bring most of a scheme's loss back: modules raised to kinds with more bits, and what
each gains, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from modelc.pipeline.evaluation import TextWindows, evaluate_simulated
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.loss import TensorLoss
from modelc.pipeline.simulation import Simulated, simulate, weight_bits
from modelc.pipeline.store import Store
from modelc.quant.overrides import known_kinds
from modelc.verify.evaluate import Evaluation
from modelc.verify.report import finite

# What a kind is raised to: the first that the module may be of and that has more bits.
_LADDER: Final = ("w8", "w16")


@dataclass(frozen=True)
class Remedy:
    """Modules raised to other kinds, and how the model does with these.

    Attributes:
        overrides: module -> kind, as a recipe has it.
        added_bytes: how much larger the weights become.
    """

    overrides: Mapping[str, str]
    added_bytes: int
    evaluation: Evaluation

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        distance = self.evaluation.float_model
        return {
            "overrides": dict(self.overrides),
            "added_bytes": self.added_bytes,
            "perplexity": finite(self.evaluation.perplexity),
            "kl_divergence": finite(distance.kl_divergence) if distance else None,
        }


def measure_remedies(
    simulated: Simulated,
    text: TextWindows,
    losses: Sequence[TensorLoss],
    count: int,
    store: Store,
    events: Events = ignore,
) -> list[Remedy]:
    """Raise the `count` modules whose weights lose most, each alone and, last, all together; those
    first that bring the model closest to float."""
    worst = _most_lost(simulated, losses)[:count]
    raised = [{module: kind} for module, kind in worst]
    remedies = [_measure(simulated, text, one, store, events) for one in raised]
    remedies.sort(key=_divergence)
    if len(worst) > 1:
        remedies.append(_measure(simulated, text, dict(worst), store, events))
    return remedies


def _most_lost(simulated: Simulated, losses: Sequence[TensorLoss]) -> list[tuple[str, str]]:
    """Return modules and the kinds to raise them to, by what their weights lose of the signal."""
    lost: dict[str, float] = {}
    for loss in losses:
        if loss.by_weights and loss.signal:
            lost[loss.module] = max(lost.get(loss.module, 0.0), loss.by_weights / loss.signal)
    kinds = simulated.kinds
    ordered = sorted(lost.keys() & kinds.keys(), key=lambda module: (-lost[module], module))
    better = ((module, _raised(module, kinds[module])) for module in ordered)
    return [(module, kind) for module, kind in better if kind]


def _raised(module: str, kind: str) -> str:
    allowed, now = known_kinds(module), weight_bits(module, kind)
    higher = (other for other in _LADDER if other in allowed and weight_bits(module, other) > now)
    return next(higher, "")


def _measure(
    simulated: Simulated,
    text: TextWindows,
    overrides: Mapping[str, str],
    store: Store,
    events: Events,
) -> Remedy:
    kinds, job = simulated.kinds, simulated.job
    if job.recipe.algorithms:  # what they made codes of is to be made again
        every = {**job.recipe.overrides, **overrides}
        recipe = job.recipe.model_copy(update={"overrides": every})
        with simulate(job.source, recipe, store=store, events=events) as other:
            other.share_float_logits(simulated)
            evaluation = evaluate_simulated(other, text)
    else:
        evaluation = evaluate_simulated(simulated, text, kinds={**kinds, **overrides})
    added = sum(
        prod(simulated.shapes[module])
        * (weight_bits(module, kind) - weight_bits(module, kinds[module]))
        / 8
        for module, kind in overrides.items()
    )
    return Remedy(overrides, round(added), evaluation)


def _divergence(remedy: Remedy) -> float:
    assert remedy.evaluation.float_model
    return remedy.evaluation.float_model.kl_divergence

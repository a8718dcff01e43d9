"""What each matrix of a source costs by its kind, for people to read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from modelc.pipeline.auto_job import auto_job
from modelc.pipeline.events import Events, ignore
from modelc.pipeline.execute import execute
from modelc.pipeline.plan_auto import sensitivity_plan
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.steps_sensitivity import SENSITIVITY
from modelc.pipeline.store import Store


@dataclass(frozen=True)
class SensitivityRow:
    """What one matrix costs in one kind.

    Attributes:
        kl_divergence: of the logits, mean nats per token, if this matrix alone is of the kind.
        size, saved: its bytes, and how many fewer these are than in the most precise kind.
    """

    module: str
    kind: str
    kl_divergence: float
    size: int
    saved: int


def measure_source(
    source: Path, recipe: Recipe, store: Store | None = None, events: Events = ignore
) -> list[SensitivityRow]:
    """Return what each module's matrix costs by its kind, the highest costs first; of a recipe its
    scheme does not matter.

    Raises:
        ModelcError: as `auto_job` and `execute`.
    """
    auto, store = auto_job(source, recipe), store or Store()
    with store.in_use():
        results = execute(sensitivity_plan(auto), store, auto.job.sources, events)
        table = json.loads((results[-1].path / SENSITIVITY).read_text())
    rows = [
        SensitivityRow(
            module,
            kind,
            cost,
            auto.bytes(module, kind),
            auto.bytes(module, auto.candidates[module][0]) - auto.bytes(module, kind),
        )
        for module, costs in table.items()
        for kind, cost in costs.items()
    ]
    return sorted(rows, key=lambda row: (-row.kl_divergence, row.module, row.kind))

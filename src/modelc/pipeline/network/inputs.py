"""What a network's inputs are, known before anything is compiled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from modelc.pipeline.execute import execute
from modelc.pipeline.network.job import make_network_job
from modelc.pipeline.network.plan import leading_to, network_plan
from modelc.pipeline.network.steps import FACTS
from modelc.pipeline.plan import Plan
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.store import Store
from modelc.quant.feeds import InputSpec


def network_inputs(source: Path, recipe: Recipe, store: Store) -> list[InputSpec]:
    """Return the inputs of a source's canonical graph, which is made now if it is not in the store.

    Raises:
        BadInput: as `make_network_job` and `read_network`.
    """
    # Which data it is quantised by is not known yet.
    probing = recipe.model_copy(update={"quant": None, "target": "cpu", "format": ("genie",)})
    job = make_network_job(source, probing)
    plan = network_plan(job)
    with store.in_use():
        results = execute(
            Plan(plan.target, leading_to(plan, "canonical"), ("canonical",)), store, job.sources
        )
        facts = json.loads((results[-1].path / FACTS).read_text())
    return [
        InputSpec(row["name"], np.dtype(row["dtype"]), tuple(row["shape"]))
        for row in facts["inputs"]
    ]

"""The plans of a search for kinds of weights: one that measures each matrix, and one for each
assignment of kinds that is tried.

import ─ canonical ─┬─ sensitivity
                    ├─ float_logits ─────────────┐
                    └─ (weights) ─ (encodings) ─ trial
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from modelc.pipeline.auto_job import AutoJob
from modelc.pipeline.job import VERIFY_TEXT, Job, calibration_source
from modelc.pipeline.plan import Plan
from modelc.pipeline.plan_weights import calibration_options, weights_input
from modelc.pipeline.plans import FAMILIES
from modelc.pipeline.simulation_plan import simulation_job, simulation_plan
from modelc.pipeline.step import SOURCE, Step
from modelc.quant.overrides import HEAD

# Sequences of the calibration that sensitivity is measured on: a divergence settles much sooner
# than a range.
SAMPLES: Final = 4
LENGTH: Final = 128
# Multiply-adds of a measurement above which the matrices of a layer share a stream: half an hour.
MOST_WORK: Final = 5e13
# Of the text that trials read.
TOKENS: Final = 4096
WINDOW: Final = 512


def sensitivity_plan(auto: AutoJob) -> Plan:
    """Return the steps that measure every matrix."""
    job = auto.job
    options = calibration_options(job)
    options["samples"] = min(options["samples"], SAMPLES)
    options["sequence_length"] = min(options["sequence_length"], LENGTH)
    tokens = options["samples"] * options["sequence_length"]
    work = auto.weights * tokens * len(auto.open) / 2
    each_matrix = work <= MOST_WORK
    streams = len(auto.open) if each_matrix else auto.config.layers
    step = Step(
        "sensitivity",
        "modelc.pipeline.steps_sensitivity:measure_kinds",
        options={
            "candidates": {module: list(kinds) for module, kinds in auto.open.items()},
            "each_matrix": each_matrix,
            **options,
        },
        inputs=("import", "canonical"),
        reads=(SOURCE, calibration_source(job.recipe)),
        tools=("onnxruntime",),
        **_runs(auto, 4 * streams * tokens * auto.config.hidden_size),
    )
    return _with(auto.job, step)


def trial_plan(auto: AutoJob, kinds: Mapping[str, str]) -> Plan:
    """Return the steps that find out what an assignment costs."""
    recipe = auto.recipe(kinds)
    if not auto.tries_algorithms:
        recipe = recipe.model_copy(update={"algorithms": (), "algorithm_options": {}})
    job = simulation_job(auto.job.source, recipe, searched=True)
    scheme, verified = job.scheme, FAMILIES[job.target.family].verify_tokens(job)
    encodings = ("encodings",) if scheme.is_encoded else ()
    float_logits = Step(
        "float_logits",
        "modelc.pipeline.steps_trial:run_float",
        options={"tokens": TOKENS, "window": max(WINDOW, verified)},
        inputs=("import", "canonical"),
        reads=(SOURCE, VERIFY_TEXT, calibration_source(job.recipe)),
        tools=("onnxruntime",),
        **_runs(auto, 0),
    )
    trial = Step(
        "trial",
        "modelc.pipeline.steps_trial:try_kinds",
        options={
            "kinds": dict(kinds),
            "activations": "encoded" if scheme.is_encoded else scheme.activations,
            "verified": verified,
        },
        inputs=("canonical", float_logits.name, *weights_input(job), *encodings),
        reads=(SOURCE,),
        tools=("onnxruntime",),
        **_runs(auto, 0),
    )
    return _with(job, float_logits, trial)


def _with(job: Job, *steps: Step) -> Plan:
    """Return a plan of these steps and of those that they need."""
    known = {step.name: step for step in (*simulation_plan(job).steps, *steps)}
    needed, waiting = set[str](), [step.name for step in steps]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += known[name].inputs
    chosen = tuple(step for name, step in known.items() if name in needed)
    return Plan(job.target.name, chosen, (steps[-1].name,))


def _runs(auto: AutoJob, streams: int) -> dict[str, Any]:
    """Steps that run the model layer by layer, its head whole, twice each.

    Args:
        streams: bytes of hidden states beside.
    """
    fields = dict(FAMILIES[auto.job.target.family].reference(auto.job))
    if fields.get("memory"):
        head = math.prod(auto.shapes.get(HEAD, (0,)))
        fields["memory"] = 2 * fields["memory"] + 8 * head + streams
    return fields

"""The step that lets a recipe's algorithms quantise the weights, between the canonical graph and
all that reads weights; a recipe without algorithms has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelc.pipeline.job import Job, calibration_source
from modelc.pipeline.module_kinds import most_and_others
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps_weights import STEP


def weights_step(job: Job, kinds: Mapping[str, str], runs: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the step, if there is one.

    Args:
        kinds: module -> kind of its weights.
        runs: fields of a step that runs the float model.
    """
    recipe = job.recipe
    if not recipe.algorithms:
        return ()
    return (
        Step(
            STEP,
            "modelc.pipeline.steps_weights:quantise_weights",
            options={
                "algorithms": list(recipe.algorithms),
                "algorithm_options": dict(recipe.algorithm_options),
                "kinds": most_and_others(kinds),
                **calibration_options(job),
            },
            inputs=("import", "canonical"),
            reads=(SOURCE, calibration_source(job.recipe)),
            tools=("onnx", "onnx-ir", "onnxruntime"),
            **runs,
        ),
    )


def weights_input(job: Job) -> tuple[str, ...]:
    """Return the step that whoever reads weights has to have among its inputs, if there is one."""
    return (STEP,) if job.recipe.algorithms else ()


def calibration_options(job: Job) -> dict[str, Any]:
    return job.recipe.calibration.model_dump(mode="json", include={"samples", "sequence_length"})

"""The step that says what becomes of the codes that a quantised source came with."""

from __future__ import annotations

from modelc.pipeline.decoder_job import DecoderJob
from modelc.pipeline.job import Job
from modelc.pipeline.module_kinds import most_and_others
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps_codes import STEP


def codes_step(job: Job, plan: DecoderJob) -> tuple[Step, ...]:
    """Return the step; none if there are no codes, or the recipe has others made in their place."""
    if not plan.has_codes or not plan.quantised or job.recipe.algorithms or job.recipe.encodings:
        return ()
    return (
        Step(
            STEP,
            "modelc.pipeline.steps_codes:compare_codes",
            options={"weights": most_and_others(plan.kinds)},
            inputs=("canonical",),
            reads=(SOURCE,),
            tools=("onnx", "onnx-ir"),
        ),
    )

"""The step that measures what each matrix of a model costs in each kind that it might get."""

from __future__ import annotations

import json
from typing import Final

from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import canonical_graph
from modelc.pipeline.steps_calibrate import calibration_sequences

SENSITIVITY: Final = "sensitivity.json"


def measure_kinds(context: StepContext) -> None:
    """Measure the KL divergence that each module's matrix costs in each of its candidate kinds:
    sensitivity.json, module -> kind -> mean nats per token. A run that was killed is gone on with.

    Options: candidates (module -> kinds), each_matrix, and those of the calibration.
    """
    from modelc.quant.sensitivity import measure_sensitivity
    from modelc.verify.metrics import kl_divergences

    table = measure_sensitivity(
        canonical_graph(context),
        context.options["candidates"],
        calibration_sequences(context),
        kl_divergences,
        each_matrix=context.options["each_matrix"],
        partial=context.partial,
        progress=context.progress,
    )
    (context.out / SENSITIVITY).write_text(json.dumps(table, indent=1) + "\n")

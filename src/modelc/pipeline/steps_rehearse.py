"""The lowered graphs on the CPU, part after part, for models too large for the simulator."""

from __future__ import annotations

from typing import Final

from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import VERIFICATION_DATA
from modelc.pipeline.steps_binaries import read_rotary

REHEARSAL: Final = "rehearsal.npz"


def run_part(context: StepContext) -> None:
    """Run one part's graphs on the verification text: rehearsal.npz with its tokens, and what the
    part gives in each call.

    Options: lowered (the step that made the graphs), before (the part before, or none), graphs
        (names), context_length (the longest).
    """
    from modelc.pipeline.verify import load_reference
    from modelc.targets.snapdragon.rehearsal import load, rehearse, save

    lowered = context.inputs[context.options["lowered"]]
    before = context.options["before"]
    given = load(context.inputs[f"rehearse.{before}"] / REHEARSAL).calls if before else ()
    tokens, _ = load_reference(context.inputs["reference"] / VERIFICATION_DATA)
    models = {name: lowered / f"{name}.onnx" for name in context.options["graphs"]}
    save(rehearse(models, tokens, given, read_rotary(context)), context.out / REHEARSAL)

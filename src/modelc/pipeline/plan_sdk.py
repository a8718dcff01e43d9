"""What is other in a Snapdragon plan with `--toolchain sdk`: an installed QAIRT SDK converts,
quantises and compiles, in this order.

mha_to_sha ─┬─ lowered ──────────────────────────────────────────┬─ twins, or rehearse
            └─ float_graphs ─ convert ─ quantize ─ generate_context_binary

What the SDK makes can't be run here. The quantised graphs of the same encodings, `lowered`, are
verified in its place, and every binary is held to their tensors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from modelc.errors import Missing
from modelc.pipeline.decoder_job import DecoderJob
from modelc.pipeline.exported import check_size
from modelc.pipeline.job import Job
from modelc.pipeline.stages import STAGES, Stage
from modelc.pipeline.step import SOURCE, Step
from modelc.targets.snapdragon.sdk.find import Sdk, find_sdk

NO_SDK: Final = "none"
SCRIPT_STEP: Final = "sdk_script"
_HERE: Final = "modelc.pipeline.steps_sdk"

SDK_STAGES: Final[Mapping[str, Stage]] = {
    **{name: STAGES[name] for name in ("prepare_exports", "split_model", "mha_to_sha")},
    "convert": Stage(
        "convert",
        "each graph as a DLC, with the encodings of its tensors",
        "part",
        lambda n: {**n.graphs(n.parts), "float weights": n.parts},
        lambda n: {"DLC": n.lengths * n.parts},
    ),
    "quantize": Stage(
        "quantize",
        "each DLC by the encodings in it",
        "part",
        lambda n: {"DLC": n.lengths * n.parts},
        lambda n: {"quantised DLC": n.lengths * n.parts},
    ),
    "generate_context_binary": Stage(
        "generate_context_binary",
        "one binary for a part, weights shared by its graphs",
        "part",
        lambda n: {"quantised DLC" if n.encodings else "DLC": n.lengths * n.parts},
        lambda n: {"binary": n.binaries},
    ),
}


def uses_sdk(job: Job) -> bool:
    return job.recipe.toolchain == "sdk"


def require_sdk(job: Job) -> None:
    """Raise Missing if a job needs an SDK and there is none that can be used."""
    if uses_sdk(job):
        find_sdk(os.environ)


def sdk_release() -> str:
    """Return the release of the SDK, which is a part of what its results depend on."""
    found = _found()
    return NO_SDK if isinstance(found, Missing) else found.release


def sdk_order() -> str:
    """Return a word about the order of the named steps, and about the SDK."""
    found = _found()
    told = f"none that can be used: {found.message}" if isinstance(found, Missing) else f"{found}"
    return f"the last steps are the SDK's own, which quantises what it has converted ({told})"


def sdk_steps(
    plan: DecoderJob,
    place: str,
    origin: Mapping[str, str],
    weights: tuple[str, ...],
    chip: Mapping[str, Any],
    load: Mapping[str, Any],
    tools: tuple[str, ...],
) -> list[Step]:
    """Return the SDK's steps for one part.

    Args:
        origin: graph -> step that it comes from.
        weights: step that made the weights of these graphs, if one did.
        chip: options that say what is compiled for.
        load: fields of a step that say what it takes to compute with the part.
        tools: packages that read binaries.

    Raises:
        BadInput: the encodings of the part's weights are too many for a file.
    """
    check_size(plan, place)
    lowered = f"lowered.{place}"
    options = {"sdk": sdk_release(), **_compiled(chip), "part": place, "graphs": list(origin)}
    floats = Step(
        f"float_graphs.{place}",
        f"{_HERE}:write_float_graphs",
        options={"part": place, "graphs": dict(origin)},
        inputs=(
            *dict.fromkeys(origin.values()),
            *((lowered,) if plan.quantised else ()),
            *weights,
        ),
        reads=(SOURCE,),
        tools=("onnx", "onnx-ir"),
        transient=True,
        **load,
    )
    stages = (
        "float_graphs",
        "convert",
        *(("quantize",) if plan.quantised else ()),
        "generate_context_binary",
    )
    return [
        floats,
        *(
            Step(
                f"{stage}.{place}",
                f"{_HERE}:{stage}",
                options=options,
                inputs=(f"{before}.{place}", *((lowered,) if stage == stages[-1] else ())),
                tools=tools if stage == stages[-1] else (),
                transient=stage != stages[-1],
                # In this process even for a large model: the tools don't end with their parent, so
                # an interrupt must find them among its children.
                waits=True,
                memory=load.get("memory", 0),
            )
            for before, stage in pairwise(stages)
        ),
    ]


def script_step(plan: DecoderJob, chip: Mapping[str, Any]) -> Step:
    """Return the step that writes down how the SDK is called for all parts."""
    parts = {place: list(plan.graphs(place)) for place in plan.layout.places}
    options = {"sdk": sdk_release(), **_compiled(chip), "parts": parts}
    return Step(SCRIPT_STEP, f"{_HERE}:write_script", options=options)


def _compiled(chip: Mapping[str, Any]) -> dict[str, Any]:
    return {name: chip[name] for name in ("chipset", "fp16")}


def _found() -> Sdk | Missing:
    try:
        return find_sdk(os.environ)
    except Missing as error:
        return error

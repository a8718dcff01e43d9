"""The steps of a Snapdragon plan that are made once for each part."""

from __future__ import annotations

from modelc.pipeline.decoder_job import DecoderJob
from modelc.pipeline.exported import check_size, tells_of_weights
from modelc.pipeline.job import Job
from modelc.pipeline.layout import lengths_name
from modelc.pipeline.plan_rules import (
    MOST_SECONDS,
    TOOLS,
    chip,
    compiles,
    computes,
    has_twins,
    is_simulated,
)
from modelc.pipeline.plan_sdk import sdk_steps, uses_sdk
from modelc.pipeline.plan_weights import weights_input
from modelc.pipeline.step import SOURCE, Step

_HERE = "modelc.pipeline"


def part_steps(job: Job, plan: DecoderJob, place: str) -> list[Step]:
    """Return the steps that quantise, compile and try one part, for all its lengths."""
    lowered = _lower(job, plan, place)
    steps = [lowered, *_compile(job, plan, place, lowered)]
    if "aimet" in job.recipe.format:
        check_size(plan, place)
        steps.append(
            Step(
                f"export_encodings.{place}",
                f"{_HERE}.steps_graphs:export_encodings",
                inputs=(lowered.name,),
            )
        )
    if has_twins(job):
        steps += [_twin(plan, place, lowered, name) for name in plan.graphs(place)]
    if not is_simulated(job):
        steps.append(_rehearse(plan, place, lowered))
    return steps


def _lower(job: Job, plan: DecoderJob, place: str) -> Step:
    """Quantised graphs, or float ones; what an SDK makes of a part has the name `quantize`."""
    origin = _origin(plan, place)
    return Step(
        f"{'lowered' if uses_sdk(job) else 'quantize'}.{place}",
        f"{_HERE}.steps_graphs:quantize",
        options={
            "graphs": origin,
            "weights": plan.kinds_of(plan.layout.part(place)),
            "parameters": tells_of_weights(plan, place),
        },
        inputs=(
            *origin.values(),
            *(("encodings",) if plan.quantised else ()),
            *weights_input(job),
        ),
        reads=(SOURCE,),
        tools=("onnx", "onnx-ir"),
        transient=True,
        **computes(plan, 2 * plan.size(place).weights),
    )


def _origin(plan: DecoderJob, place: str) -> dict[str, str]:
    """Return the step that each of a part's graphs comes from."""
    layout = plan.layout
    stage = "split_model" if layout.grouped or place not in layout.with_heads else "mha_to_sha"
    return {name: f"{stage}.{lengths_name(*size)}" for name, size in plan.graphs(place).items()}


def _compile(job: Job, plan: DecoderJob, place: str, lowered: Step) -> list[Step]:
    if uses_sdk(job):
        origin, costs = _origin(plan, place), compiles(plan, place)
        weights = weights_input(job)
        return list(sdk_steps(plan, place, origin, weights, chip(plan), costs, TOOLS))
    graphs = list(plan.graphs(place))
    steps = [
        Step(
            f"generate_context_binary.{place}",
            f"{_HERE}.steps_binaries:generate_context_binary",
            options={
                **chip(plan),
                "graphs": graphs,
                "part": place,
                "context_length": max(plan.layout.context_lengths),
                "most_seconds": MOST_SECONDS,
            },
            inputs=("import", "samples", lowered.name),
            tools=TOOLS,
            **compiles(plan, place),
        )
    ]
    if "dlc" in job.recipe.format:
        steps.append(
            Step(
                f"convert.{place}",
                f"{_HERE}.steps_binaries:convert",
                options={**chip(plan), "graphs": graphs, "scheme": job.scheme.name},
                inputs=(lowered.name,),
                tools=TOOLS,
                **compiles(plan, place),
            )
        )
    return steps


def _twin(plan: DecoderJob, place: str, lowered: Step, graph: str) -> Step:
    return Step(
        f"twin.{graph}",
        f"{_HERE}.steps_binaries:compile_twin",
        options={**chip(plan), "graph": graph},
        inputs=(lowered.name,),
        tools=TOOLS,
        transient=True,
        **compiles(plan, place),
    )


def _rehearse(plan: DecoderJob, place: str, lowered: Step) -> Step:
    before = plan.before(place)
    return Step(
        f"rehearse.{place}",
        f"{_HERE}.steps_rehearse:run_part",
        options={
            "lowered": lowered.name,
            "before": before,
            "graphs": list(plan.graphs(place)),
            "context_length": max(plan.layout.context_lengths),
        },
        inputs=(
            *("import", "reference", lowered.name),
            *((f"rehearse.{before}",) if before else ()),
        ),
        tools=("onnxruntime",),
        **computes(plan, plan.size(place).host),
    )

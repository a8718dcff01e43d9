"""Snapdragon: static graphs for every part, AR length and context length, quantised, compiled into
one context binary for each part.

calibrate ─ encodings ─┐                 ┌─ samples
canonical ─ prepare_exports ─ split_model ─ mha_to_sha ─ quantize ─┬─ generate_context_binary
            (each AR, CL)                               (each part) ├─ convert
                                                                    └─ twins, or rehearse

With `toolchain = "sdk"` an installed SDK converts, quantises and compiles instead: `plan_sdk`.
"""

from __future__ import annotations

from typing import Any, Final

from modelc.decoder.parts import DecoderPart
from modelc.pipeline.decoder_job import DecoderJob, decoder_job
from modelc.pipeline.job import ENCODINGS_FILE, Job, calibration_source
from modelc.pipeline.layout import lengths_name
from modelc.pipeline.plan_codes import codes_step
from modelc.pipeline.plan_parts import part_steps
from modelc.pipeline.plan_rules import TOOLS, chip, compiles, runs_float_model
from modelc.pipeline.plan_sdk import script_step, uses_sdk
from modelc.pipeline.plan_weights import calibration_options, weights_input, weights_step
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps_samples import SAMPLE_TOKENS
from modelc.targets.snapdragon.graph_names import GraphKey

_HERE: Final = "modelc.pipeline"


def snapdragon_steps(job: Job) -> tuple[Step, ...]:
    """Return the steps between `canonical` and `verify`.

    Raises:
        BadInput: the recipe and the model don't go together; says all that is in the way.
        Missing: the compiler is not here.
    """
    from modelc.targets.snapdragon.library import library_path

    library_path("QnnHtp")  # says at once, and with a hint, if the compiler is not here
    plan = decoder_job(job)
    return (
        *weights_step(job, plan.kinds, runs_float_model(plan)),
        *codes_step(job, plan),
        _samples(job, plan),
        *(_calibration(job, plan) if plan.quantised else ()),
        *_graph_steps(job, plan),
        _attention(job, plan),
        *(step for place in plan.layout.places for step in part_steps(job, plan, place)),
        *((script_step(plan, chip(plan)),) if uses_sdk(job) else ()),
        Step(
            "describe_binaries",
            f"{_HERE}.steps_describe:describe_binaries",
            options={
                **chip(plan),
                "context_length": max(plan.layout.context_lengths),
                "parts": list(plan.layout.places),
                "format": list(job.recipe.format),
            },
            inputs=(
                "import",
                "attention",
                *(f"generate_context_binary.{place}" for place in plan.layout.places),
            ),
            tools=TOOLS,
        ),
    )


def _samples(job: Job, plan: DecoderJob) -> Step:
    return Step(
        "samples",
        f"{_HERE}.steps_samples:run_samples",
        options={"tokens": min(SAMPLE_TOKENS, *plan.layout.context_lengths)},
        inputs=("import", "canonical", *weights_input(job)),
        reads=(SOURCE, calibration_source(job.recipe)),
        tools=("onnxruntime",),
        **runs_float_model(plan),
    )


def _calibration(job: Job, plan: DecoderJob) -> tuple[Step, ...]:
    types = {"kv": plan.kv, "embedding": plan.kinds["model.embed_tokens"]}
    if job.recipe.encodings is not None:
        return (
            Step(
                "encodings",
                f"{_HERE}.steps_calibrate:import_encodings",
                options=types,
                inputs=("canonical", *weights_input(job)),
                reads=(SOURCE, ENCODINGS_FILE),
            ),
        )
    calibrate = Step(
        "calibrate",
        f"{_HERE}.steps_calibrate:calibrate",
        options=calibration_options(job),
        inputs=("import", "canonical", *weights_input(job)),
        reads=(SOURCE, calibration_source(job.recipe)),
        tools=("onnxruntime",),
        **runs_float_model(plan),
    )
    encode = Step(
        "encodings",
        f"{_HERE}.steps_calibrate:encode",
        options={
            **types,
            **job.recipe.calibration.model_dump(mode="json", include={"observer", "percentile"}),
        },
        inputs=("canonical", "calibrate", *weights_input(job)),
        reads=(SOURCE,),
    )
    return calibrate, encode


def _graph_steps(job: Job, plan: DecoderJob) -> list[Step]:
    """Steps for every AR and context length."""
    layout = plan.layout
    encodings = ("encodings",) if plan.quantised else ()
    steps = []
    for ar, length in layout.lengths:
        name = lengths_name(ar, length)
        parts = layout.rows(ar, length)
        with_heads = [layout.graph_name(ar, length, place) for place in layout.with_heads]
        rows: list[tuple[str, dict[str, Any], str]] = [
            ("prepare_exports", {"ar": ar, "context_length": length}, "canonical"),
            ("split_model", {"graph": name, "parts": parts}, f"prepare_exports.{name}"),
        ]
        if not layout.grouped:
            options = {"graph": name, "parts": with_heads}
            rows.append(("mha_to_sha", options, f"split_model.{name}"))
        steps += [
            Step(
                f"{stage}.{name}",
                f"{_HERE}.steps_graphs:{stage}",
                options=options,
                inputs=(source, *encodings, *weights_input(job)),
                reads=(SOURCE,),
                tools=("onnx", "onnx-ir"),
            )
            for stage, options, source in rows
        ]
    return steps


def _attention(job: Job, plan: DecoderJob) -> Step:
    """One layer in both forms of attention; the part that holds the first layer says its size."""
    place = plan.layout.with_heads[0]
    name = lengths_name(*plan.layout.lengths[0])
    return Step(
        "attention",
        f"{_HERE}.steps_attention:compare_attention",
        options={
            "chipset": plan.chipset.name,
            "fp16": not plan.quantised,
            "graph": name,
            "name": GraphKey(*plan.layout.lengths[0], 1, 1).name,
            "layers": plan.config.layers,
            "weights": plan.kinds_of(DecoderPart(0, 1)),
            "context_length": max(plan.layout.context_lengths),
            "tried": "grouped" if plan.layout.grouped else "sha",
        },
        inputs=(
            *("import", "samples", f"prepare_exports.{name}", *weights_input(job)),
            *(("encodings",) if plan.quantised else ()),
        ),
        reads=(SOURCE,),
        tools=TOOLS,
        **compiles(plan, place),
    )

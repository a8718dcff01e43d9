"""Snapdragon: static graphs for every part, AR length and context length, quantised, compiled into
one context binary for each part.

calibrate ─ encodings ─┐                 ┌─ samples
canonical ─ prepare_exports ─ split_model ─ mha_to_sha ─ quantize ─┬─ generate_context_binary
            (each AR, CL)                               (each part) ├─ convert
                                                                    └─ twins, or rehearse

With `toolchain = "sdk"` an installed SDK converts, quantises and compiles instead: `plan_sdk`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.tokenizer import TOKENIZER
from modelc.errors import Missing, Where
from modelc.pipeline.contents_snapdragon import TWINS, contents, ships
from modelc.pipeline.decoder_job import DecoderJob, decoder_job
from modelc.pipeline.exported import tells_of_weights
from modelc.pipeline.family import Family
from modelc.pipeline.job import CALIBRATION_TEXT, ENCODINGS_FILE, Job
from modelc.pipeline.layout import lengths_name
from modelc.pipeline.plan import Plan
from modelc.pipeline.plan_sdk import (
    SDK_STAGES,
    require_sdk,
    script_step,
    sdk_order,
    sdk_release,
    sdk_steps,
    uses_sdk,
)
from modelc.pipeline.stages import describe_stages
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.steps_binaries import INFO, PROOF
from modelc.pipeline.steps_rehearse import REHEARSAL

TOOLS: Final = ("onnxruntime", "onnxruntime-qnn")

# A decoder larger than this is not run as a whole in the simulator, which takes a second for 37
# million multiply-adds of an AR-1 graph.
SIMULATED_WEIGHTS: Final = 50_000_000
# Nor is a graph of a part that takes longer than this for one call, but for the quickest of them.
MOST_SECONDS: Final = 30.0

# The float model runs layer by layer, a few hundred megabytes each.
_LAYER_MEMORY: Final = 3_000_000_000

_HERE: Final = "modelc.pipeline"


def _steps(job: Job) -> tuple[Step, ...]:
    from modelc.targets.snapdragon.library import library_path

    library_path("QnnHtp")  # says at once, and with a hint, if the compiler is not here
    plan = decoder_job(job)
    return (
        _samples(job, plan),
        *(_calibration(job, plan) if plan.quantised else ()),
        *_graph_steps(job, plan),
        _attention(plan),
        *(step for place in plan.layout.places for step in _part_steps(job, plan, place)),
        *((script_step(plan, _chip(plan)),) if uses_sdk(job) else ()),
        Step(
            "describe_binaries",
            f"{_HERE}.steps_binaries:describe_binaries",
            options={
                **_chip(plan),
                "parts": list(plan.layout.places),
                "format": list(job.recipe.format),
            },
            inputs=("import", "attention", *_each(plan, "generate_context_binary")),
            tools=TOOLS,
        ),
    )


def _samples(job: Job, plan: DecoderJob) -> Step:
    return Step(
        "samples",
        f"{_HERE}.steps_samples:run_samples",
        options={"tokens": min(48, min(plan.layout.context_lengths))},
        inputs=("import", "canonical"),
        reads=(SOURCE, CALIBRATION_TEXT),
        tools=("onnxruntime",),
        **_computes(plan, _LAYER_MEMORY),
    )


def _calibration(job: Job, plan: DecoderJob) -> tuple[Step, ...]:
    types = {"kv": plan.kv, "embedding": plan.kinds["model.embed_tokens"]}
    if job.recipe.encodings is not None:
        return (
            Step(
                "encodings",
                f"{_HERE}.steps_calibrate:import_encodings",
                options=types,
                inputs=("canonical",),
                reads=(SOURCE, ENCODINGS_FILE),
            ),
        )
    calibrate = Step(
        "calibrate",
        f"{_HERE}.steps_calibrate:calibrate",
        options=job.recipe.calibration.model_dump(mode="json", exclude={"text"}),
        inputs=("import", "canonical"),
        reads=(SOURCE, CALIBRATION_TEXT),
        tools=("onnxruntime",),
        **_computes(plan, _LAYER_MEMORY),
    )
    encode = Step(
        "encodings",
        f"{_HERE}.steps_calibrate:encode",
        options=types,
        inputs=("canonical", "calibrate"),
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
                inputs=(source, *encodings),
                reads=(SOURCE,),
                tools=("onnx", "onnx-ir"),
            )
            for stage, options, source in rows
        ]
    return steps


def _attention(plan: DecoderJob) -> Step:
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
            "layers": plan.config.layers,
            "weights": plan.kinds_of(place),
            "context_length": max(plan.layout.context_lengths),
            "tried": "grouped" if plan.layout.grouped else "sha",
        },
        inputs=(
            *("import", "samples", f"prepare_exports.{name}"),
            *(("encodings",) if plan.quantised else ()),
        ),
        reads=(SOURCE,),
        tools=TOOLS,
        **_compiles(plan, place),
    )


def _part_steps(job: Job, plan: DecoderJob, place: str) -> list[Step]:
    """Steps for one part, of all its lengths."""
    layout, graphs = plan.layout, plan.graphs(place)
    quantize = f"{'lowered' if uses_sdk(job) else 'quantize'}.{place}"
    stage = "split_model" if layout.grouped or place not in layout.with_heads else "mha_to_sha"
    origin = {name: f"{stage}.{lengths_name(*size)}" for name, size in graphs.items()}
    chip = {**_chip(plan), "graphs": list(graphs)}
    steps = [
        Step(
            quantize,
            f"{_HERE}.steps_graphs:quantize",
            options={
                "graphs": origin,
                "weights": plan.kinds_of(place),
                "parameters": tells_of_weights(plan, place),
            },
            inputs=(*origin.values(), *(("encodings",) if plan.quantised else ())),
            reads=(SOURCE,),
            tools=("onnx", "onnx-ir"),
            transient=True,
            **_computes(plan, 2 * plan.size(place).weights),
        ),
    ]
    if uses_sdk(job):
        steps += sdk_steps(plan, place, origin, _chip(plan), _compiles(plan, place), TOOLS)
    else:
        steps.append(
            Step(
                f"generate_context_binary.{place}",
                f"{_HERE}.steps_binaries:generate_context_binary",
                options={**chip, "part": place, "most_seconds": MOST_SECONDS},
                inputs=("import", "samples", quantize),
                tools=TOOLS,
                **_compiles(plan, place),
            )
        )
    if "dlc" in job.recipe.format and not uses_sdk(job):
        steps.append(
            Step(
                f"convert.{place}",
                f"{_HERE}.steps_binaries:convert",
                options={**chip, "scheme": job.scheme.name},
                inputs=(quantize,),
                tools=TOOLS,
                **_compiles(plan, place),
            )
        )
    if _has_twins(job):
        steps += [
            Step(
                f"twin.{name}",
                f"{_HERE}.steps_binaries:compile_twin",
                options={**_chip(plan), "graph": name},
                inputs=(quantize,),
                tools=TOOLS,
                transient=True,
                **_compiles(plan, place),
            )
            for name in graphs
        ]
    if not _is_simulated(job):
        before = plan.before(place)
        steps.append(
            Step(
                f"rehearse.{place}",
                f"{_HERE}.steps_rehearse:run_part",
                options={
                    "lowered": quantize,
                    "before": before,
                    "graphs": list(graphs),
                    "context_length": max(layout.context_lengths),
                },
                inputs=(
                    "import",
                    "reference",
                    quantize,
                    *((f"rehearse.{before}",) if before else ()),
                ),
                tools=("onnxruntime",),
                **_computes(plan, plan.size(place).host),
            )
        )
    return steps


def _computes(plan: DecoderJob, memory: int) -> dict[str, Any]:
    """A large model's steps are processes of their own, whose memory is counted."""
    return {"isolated": True, "memory": memory} if plan.is_large else {}


def _compiles(plan: DecoderJob, place: str) -> dict[str, Any]:
    """Steps that let a worker compile a part: several at once, as far as memory goes."""
    memory = plan.size(place).host
    return {"isolated": True, "memory": memory} if plan.is_large else {"waits": True}


def _chip(plan: DecoderJob) -> dict[str, Any]:
    # By the chipset's own name: results are shared by all its aliases.
    return {
        "chipset": plan.chipset.name,
        "fp16": not plan.quantised,
        "context_length": max(plan.layout.context_lengths),
    }


def _each(plan: DecoderJob, stage: str) -> tuple[str, ...]:
    return tuple(f"{stage}.{place}" for place in plan.layout.places)


def _is_simulated(job: Job) -> bool:
    return decoder_job(job).weights <= SIMULATED_WEIGHTS


def _has_twins(job: Job) -> bool:
    return _is_simulated(job) or job.recipe.keep_twins


def _runs_on(job: Job) -> tuple[str, ...]:
    plan = decoder_job(job)
    if _is_simulated(job):
        graphs = (name for place in plan.layout.places for name in plan.graphs(place))
        return ("describe_binaries", *(f"twin.{name}" for name in graphs))
    return ("describe_binaries", f"rehearse.{plan.layout.places[-1]}")


def _verify_tokens(job: Job) -> int:
    return min(job.recipe.verify.tokens or 256, max(decoder_job(job).layout.context_lengths))


def _settings(job: Job) -> dict[str, Any]:
    plan = decoder_job(job)
    parts = {place: str(part) for place, part in plan.layout.numbered()}
    return {
        "chipset": plan.chipset.name,
        "context_length": max(plan.layout.context_lengths),
        "parts": parts,
        "why_parts": plan.layout.why,
        **({"toolchain": sdk_release()} if uses_sdk(job) else {}),
    }


def _stages(job: Job, plan: Plan) -> dict[str, Any]:
    if uses_sdk(job):
        return describe_stages(decoder_job(job), plan, SDK_STAGES, sdk_order())
    return describe_stages(decoder_job(job), plan)


def _files_of_steps(folders: Mapping[str, Path]) -> dict[str, Path]:
    files = {name: path for name, path in folders.items() if name.startswith("twin.")}
    for name, path in folders.items():
        if name.startswith("rehearse."):
            files["rehearsal"] = path / REHEARSAL
    return {
        "config": folders["import"] / CONFIG,
        "tokenizer": folders["import"] / TOKENIZER,
        "info": folders["describe_binaries"] / INFO,
        "proof": folders["describe_binaries"] / PROOF,
        **files,
    }


def _files_of_bundle(folder: Path, manifest: Manifest) -> dict[str, Path]:
    if not (folder / TWINS).is_dir():
        raise Missing(
            "the bundle has no binaries for the simulator, only what a device runs",
            where=Where(path=str(folder)),
            hint="compile again with --keep-twins, or run the bundle on a device",
        )
    return {
        "config": folder / CONFIG,
        "tokenizer": folder / TOKENIZER,
        "info": folder / INFO,
        "proof": folder / PROOF,
        TWINS: folder / TWINS,
    }


SNAPDRAGON: Final = Family(
    canonical_length=lambda job: decoder_job(job).canonical_length,
    requires=require_sdk,
    stages=_stages,
    steps=_steps,
    runs_on=_runs_on,
    ships=ships,
    tools=TOOLS,
    verify_tokens=_verify_tokens,
    contents=contents,
    settings=_settings,
    files_of_steps=_files_of_steps,
    files_of_bundle=_files_of_bundle,
)

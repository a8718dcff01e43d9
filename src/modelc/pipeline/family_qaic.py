"""Cloud AI 100: what the family's steps are made of, and what goes into its bundle and runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.write import FromFile
from modelc.errors import Missing
from modelc.frontends import read_model
from modelc.ir.stored import tensor_shape
from modelc.pipeline.card_files import OPTION_FILES, card_sources
from modelc.pipeline.card_job import card_job, given_paths, is_compiled_here
from modelc.pipeline.family import Contents, Family
from modelc.pipeline.graph_of import graph_of
from modelc.pipeline.job import Job
from modelc.pipeline.plan import Plan
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps import IR
from modelc.pipeline.store import Entry
from modelc.targets.qaic.prepared import BINARY_DIR, MODEL, SCRIPT, read_prepared
from modelc.targets.qaic.record import BINARY

_HERE: Final = "modelc.pipeline.steps_card"
_LARGE: Final = 300_000_000  # weights; of larger models a shorter text is verified
_TOKENS: Final = (256, 48)


def _steps(job: Job) -> tuple[Step, ...]:
    plan = card_job(job)
    adapters = [name for name in card_sources(job.recipe.qaic) if name.startswith("adapter_")]
    named = {option: OPTION_FILES[option] for option in given_paths(job)}
    if job.recipe.qaic.qnn_config is not None:
        named["qnn_config"] = OPTION_FILES["qnn_config"]
    return (
        Step(
            "lower",
            f"{_HERE}:lower_for_card",
            options={
                "context_length": plan.shapes.context_length,
                "graph": dict(plan.graph),
                "adapters": len(plan.adapters),
            },
            reads=(SOURCE, *adapters),
            tools=("onnx", "onnx-ir"),
        ),
        Step(
            "prepare",
            f"{_HERE}:prepare_card",
            options={
                "toolchain": plan.toolchain,
                "sdk_version": plan.sdk_version,
                "given": dict(plan.given),
                "files": named,
            },
            inputs=("lower",),
            reads=tuple(named.values()),
        ),
    )


def _after(job: Job) -> tuple[Step, ...]:
    plan = card_job(job)
    if not is_compiled_here(job):
        return ()
    assert plan.sdk is not None
    return (
        Step(
            "qpc",
            f"{_HERE}:compile_card",
            options={"sdk": f"{plan.toolchain} {plan.sdk.version}"},
            inputs=("lower", "prepare", "verify"),
        ),
    )


def _lacking(job: Job, bundle: Path) -> Missing | None:
    missing = card_job(job).lacking
    if missing is None or job.recipe.qaic.prepare_only:
        return None
    return Missing(
        f"everything is prepared, but not compiled: {missing.message}",
        where=missing.where,
        hint=f"carry {bundle} to a machine with the SDK and run `bash {SCRIPT}` there, or "
        f"`modelc qaic compile {bundle.name}`; --prepare-only says that this is all that is wanted",
    )


def _stages(job: Job, plan: Plan) -> dict[str, Any]:
    found = card_job(job)
    entries = [{"name": entry.name, **entry.symbols} for entry in found.entries]
    return {"stages": [], "specializations": entries}


def _contents(job: Job, entries: Mapping[str, Entry]) -> Contents:
    files = {
        name: FromFile(entries[step].path / name, digest)
        for step in ("lower", "prepare", *(step.name for step in _after(job)))
        for name, digest in entries[step].record.files.items()
        if not name.startswith(f"{IR}/")
    }
    plan = card_job(job)
    prepared = read_prepared(entries["prepare"].path)
    told = {
        "toolchain": plan.toolchain,
        "sdk_version": plan.sdk_version,
        "compiled": f"{BINARY_DIR}/{BINARY}" in files,
        "options": dict(prepared.options),
        "commands": prepared.commands,
        "specializations": [{"name": entry.name, **entry.symbols} for entry in plan.entries],
    }
    return Contents(files, (graph_of(entries["lower"].path / MODEL),), {"card": told})


def _settings(job: Job) -> dict[str, Any]:
    plan = card_job(job)
    shapes = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(plan.shapes).items()}
    devices = plan.options.num_devices
    return {
        **shapes,
        "max_top_k": plan.graph["max_top_k"],
        "adapters": list(plan.adapters),
        "devices": list(range(devices)) if devices > 1 else [],
    }


def _verify_tokens(job: Job) -> int:
    weights = sum(math.prod(tensor_shape(row)) for row in read_model(job.source).weights.values())
    most = job.recipe.verify.tokens or _TOKENS[weights > _LARGE]
    return min(most, card_job(job).shapes.context_length)


def _files_of_bundle(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """The compiled program goes before its ONNX, also one that came into the folder later."""
    files = {"model": folder / MODEL}
    if (folder / BINARY_DIR / BINARY).is_file():
        files["qpc"] = folder / BINARY_DIR
    return files


QAIC: Final = Family(
    canonical_length=lambda job: card_job(job).shapes.context_length,
    requires=lambda job: None,
    stages=_stages,
    steps=_steps,
    runs_on=lambda job: ("lower",),
    ships=lambda job: ("lower", "prepare"),
    tools=("onnxruntime",),
    reference=lambda job: {},
    verify_tokens=_verify_tokens,
    contents=_contents,
    settings=_settings,
    files_of_steps=lambda folders: {"parts": folders["lower"] / MODEL},
    files_of_bundle=_files_of_bundle,
    after=_after,
    lacking=_lacking,
)

"""CUDA: what the family's steps are made of, and what goes into its bundle and runtime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Graph, Manifest, Tensor
from modelc.bundle.write import FromFile
from modelc.frontends import read_model
from modelc.pipeline.cuda_plan import plan_options
from modelc.pipeline.family import Contents, Family
from modelc.pipeline.job import TILES_FILE, Job, calibration_source
from modelc.pipeline.module_kinds import cuda_kinds
from modelc.pipeline.plan import Plan
from modelc.pipeline.plan_weights import calibration_options, weights_input, weights_step
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps import IR
from modelc.pipeline.steps_cuda import KERNEL_FACTS, KERNELS, MEMORY, PLAN
from modelc.pipeline.store import Entry
from modelc.targets.cuda.aot import check_triton
from modelc.targets.cuda.choose_engine import check_torch
from modelc.targets.cuda.inputs import INPUTS
from modelc.targets.cuda.plan import Function, LaunchPlan, load_plan
from modelc.targets.cuda.tile_table import read_tiles, shipped_digest

_HERE: Final = "modelc.pipeline.steps_cuda"
_TOKENS: Final = 256
_TYPES: Final = {"i32": "int32", "fp32": "float32"}


def _requires(job: Job) -> None:
    """What compiles, and what the result is verified with."""
    check_triton()
    check_torch()


def _steps(job: Job) -> tuple[Step, ...]:
    model = read_model(job.source)
    kinds = cuda_kinds(job, model)
    if job.recipe.cuda.tiles is not None:
        read_tiles(job.recipe.cuda.tiles)  # says what is wrong with it before there is any work
    quantised = {module: kind for module, kind in kinds.items() if kind != "float"}
    return (
        *weights_step(job, quantised, {}),
        *_scales(job),
        Step(
            "lower",
            f"{_HERE}:lower_for_cuda",
            options=plan_options(job, model),
            inputs=(
                "canonical",
                *weights_input(job),
                *(("scales",) if job.scheme.is_calibrated else ()),
            ),
            reads=(SOURCE,),
            tools=("onnx", "onnx-ir"),
        ),
        *(
            Step(
                f"kernels.sm{gpu.arch}",
                f"{_HERE}:compile_kernels",
                options={"arch": gpu.arch, "tiles": shipped_digest()},
                inputs=("lower",),
                reads=(TILES_FILE,) if job.recipe.cuda.tiles is not None else (),
                tools=("triton",),
                waits=True,
            )
            for gpu in job.target.gpus
        ),
    )


def _scales(job: Job) -> tuple[Step, ...]:
    """Calibrate activations that have one scale for all tokens."""
    if not job.scheme.is_calibrated:
        return ()
    calibrate = Step(
        "calibrate",
        "modelc.pipeline.steps_calibrate:calibrate",
        options=calibration_options(job),
        inputs=("import", "canonical", *weights_input(job)),
        reads=(SOURCE, calibration_source(job.recipe)),
        tools=("onnxruntime",),
    )
    chosen = job.recipe.calibration.model_dump(mode="json", include={"observer", "percentile"})
    scales = Step("scales", f"{_HERE}:choose_scales", options=chosen, inputs=("calibrate",))
    return calibrate, scales


def _kernel_steps(job: Job) -> tuple[str, ...]:
    return tuple(f"kernels.sm{gpu.arch}" for gpu in job.target.gpus)


def _stages(job: Job, plan: Plan) -> dict[str, Any]:
    return {"stages": [{"name": name, "makes": KERNELS} for name in _kernel_steps(job)]}


def _contents(job: Job, entries: Mapping[str, Entry]) -> Contents:
    files = {
        name: FromFile(entries["lower"].path / name, digest)
        for name, digest in entries["lower"].record.files.items()
        if not name.startswith(f"{IR}/")
    }
    cubins: dict[str, int] = {}
    for gpu in job.target.gpus:
        step = entries[f"kernels.sm{gpu.arch}"]
        for name, digest in step.record.files.items():
            files[f"{KERNELS}/sm{gpu.arch}/{name}"] = FromFile(step.path / name, digest)
        facts = json.loads((step.path / KERNEL_FACTS).read_text())
        cubins[f"sm{gpu.arch}"] = len(facts["kernels"])
    memory = json.loads((entries["lower"].path / MEMORY).read_text())
    plan = load_plan(entries["lower"].path / PLAN)
    told = {"cuda": {"kernels": cubins, "operators": plan.operators(), **memory}}
    graphs = tuple(_graph(plan, function) for function in plan.functions)
    return Contents(files, graphs, told)


def _graph(plan: LaunchPlan, function: Function) -> Graph:
    inputs = tuple(
        Tensor(name, _TYPES[one.type], tuple(dim.symbol for dim in one.dims))
        for name, one in INPUTS.items()
    )
    outputs = (
        Tensor("logits", "float32", ("rows", plan.vocabulary)),
        Tensor("chosen", "int32", ("sequences",)),
    )
    return Graph(function.name, PLAN, inputs, outputs)


def _files_of_steps(folders: Mapping[str, Path]) -> dict[str, Path]:
    return {"plan": folders["lower"] / PLAN}


def _files_of_bundle(folder: Path, manifest: Manifest) -> dict[str, Path]:
    return {"plan": folder / PLAN, "kernels": folder / KERNELS}


CUDA: Final = Family(
    canonical_length=lambda job: max(job.recipe.context_length, default=0),
    requires=_requires,
    stages=_stages,
    steps=_steps,
    runs_on=lambda job: ("lower",),
    ships=lambda job: ("lower", *_kernel_steps(job)),
    tools=("torch",),
    reference=lambda job: {},
    verify_tokens=lambda job: job.recipe.verify.tokens or _TOKENS,
    contents=_contents,
    settings=lambda job: {"engine": "auto"},
    files_of_steps=_files_of_steps,
    files_of_bundle=_files_of_bundle,
)

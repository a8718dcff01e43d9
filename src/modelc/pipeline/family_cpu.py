"""The CPU: the canonical graph fused and packed for ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelc.bundle.write import FromFile
from modelc.frontends import read_model
from modelc.pipeline.family import Contents, Family
from modelc.pipeline.graph_of import graph_of
from modelc.pipeline.job import Job
from modelc.pipeline.module_kinds import cpu_kinds, most_and_others
from modelc.pipeline.plan_weights import weights_input, weights_step
from modelc.pipeline.report import UNREACHED
from modelc.pipeline.step import SOURCE, Step, StepContext
from modelc.pipeline.steps import IR
from modelc.pipeline.steps_weights import STEP, unreached
from modelc.pipeline.store import Entry

MODEL: Final = "model.onnx"


def _steps(job: Job) -> tuple[Step, ...]:
    kinds = cpu_kinds(job, read_model(job.source))
    coded = {"weights": "kinds", "kinds": most_and_others(kinds)}
    return (
        *weights_step(job, kinds, {}),
        Step(
            "lower",
            "modelc.pipeline.family_cpu:lower",
            options={
                **(coded if kinds else {"weights": job.scheme.weights}),
                "gguf": job.recipe.gguf,
                "activations": job.scheme.activations,
            },
            inputs=("canonical", *weights_input(job)),
            reads=(SOURCE,),
            tools=("onnx", "onnx-ir"),
        ),
    )


def lower(context: StepContext) -> None:
    """Run the CPU's passes: model.onnx with its weights beside it, ir/ with the text forms."""
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.pipeline.steps import canonical_graph
    from modelc.targets.cpu.emit import emit_cpu

    model, _ = run_passes(
        canonical_graph(context),
        build_pipeline("cpu", context.options),
        graph="decoder",
        dump_dir=context.out / IR,
    )
    emit_cpu(model, context.out)


def _contents(job: Job, entries: Mapping[str, Entry]) -> Contents:
    entry = entries["lower"]
    files = {
        name: FromFile(entry.path / name, digest)
        for name, digest in entry.record.files.items()
        if not name.startswith(f"{IR}/")
    }
    alone = unreached(entries[STEP].path) if STEP in entries else []
    told = {UNREACHED: alone} if alone else {}
    return Contents(files, (graph_of(entry.path / MODEL),), told)


CPU: Final = Family(
    canonical_length=lambda job: max(job.recipe.context_length, default=0),
    requires=lambda job: None,
    stages=lambda job, plan: {"stages": []},
    steps=_steps,
    runs_on=lambda job: ("lower",),
    ships=lambda job: ("lower",),
    tools=("onnxruntime",),
    reference=lambda job: {},
    verify_tokens=lambda job: job.recipe.verify.tokens or 256,
    contents=_contents,
    settings=lambda job: {},
    files_of_steps=lambda folders: {"model": folders["lower"] / MODEL},
    files_of_bundle=lambda folder, manifest: {"model": folder / MODEL},
)

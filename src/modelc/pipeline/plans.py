"""From a job to its plan, and from the plan's results to the bundle.

import ──────────────┬────────────┬──────────────┐
canonical ── reference ───────────┤              │
    └── the family's own steps ── verify ── (more steps of the family) ── the bundle
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Manifest, Source
from modelc.bundle.tokenizer import SETTINGS, TOKENIZER
from modelc.bundle.write import Draft, FromFile
from modelc.errors import BadInput, Missing
from modelc.files import FileDigest
from modelc.pipeline.card_files import kept_files
from modelc.pipeline.events import StepResult
from modelc.pipeline.family import Family
from modelc.pipeline.family_cpu import CPU
from modelc.pipeline.family_cuda import CUDA
from modelc.pipeline.family_qaic import QAIC
from modelc.pipeline.family_snapdragon import SNAPDRAGON
from modelc.pipeline.job import (
    CALIBRATION_DATA,
    CALIBRATION_TEXT,
    ENCODINGS_FILE,
    TILES_FILE,
    VERIFY_TEXT,
    Job,
)
from modelc.pipeline.network.draft import draft_network
from modelc.pipeline.network.job import NetworkJob
from modelc.pipeline.network.plan import network_plan
from modelc.pipeline.plan import Plan
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.report import REPORT, render_report
from modelc.pipeline.sources import Sources
from modelc.pipeline.step import SOURCE, Step
from modelc.pipeline.steps import CONFIG, FACTS, VERIFICATION, VERIFICATION_DATA
from modelc.pipeline.store import Entry
from modelc.quant.samples import source_of
from modelc.quant.samples.npz import rows_as_npz

FAMILIES: Final[Mapping[str, Family]] = {
    "cpu": CPU,
    "snapdragon": SNAPDRAGON,
    "qaic": QAIC,
    "cuda": CUDA,
}
ENGINES: Final[Mapping[str, tuple[str, ...]]] = {
    "qaic": ("auto", "onnx"),
    "cuda": ("auto", "cuda", "reference", "interpreter"),
}
RECIPE: Final = "recipe.toml"
IMPORTED: Final = "imported.encodings"
TILES: Final = "tiles.json"
_HERE = "modelc.pipeline.steps"


def check_requirements(job: Job | NetworkJob) -> None:
    """Raise Missing if compiling a job needs something that this machine lacks."""
    if isinstance(job, NetworkJob):
        return  # its steps say what they lack
    FAMILIES[job.target.family].requires(job)


def lacking(job: Job | NetworkJob, bundle: Path) -> Missing | None:
    """Return what is missing on this machine of a bundle that was written, None if nothing."""
    if isinstance(job, NetworkJob):
        return None
    return FAMILIES[job.target.family].lacking(job, bundle)


def make_plan(job: Job | NetworkJob) -> Plan:
    """Return the steps that compile a job."""
    if isinstance(job, NetworkJob):
        return network_plan(job)
    family = FAMILIES[job.target.family]
    length = {"context_length": family.canonical_length(job)}
    if job.recipe.cuda.sliding_window:
        length["sliding_window"] = job.recipe.cuda.sliding_window
    steps = (
        Step("import", f"{_HERE}:import_source", reads=(SOURCE,)),
        Step(
            "canonical",
            f"{_HERE}:build_canonical",
            options=length,
            reads=(SOURCE,),
            tools=("onnx", "onnx-ir"),
        ),
        Step(
            "reference",
            f"{_HERE}:run_reference",
            options={"tokens": family.verify_tokens(job)},
            inputs=("import", "canonical"),
            reads=(SOURCE, VERIFY_TEXT),
            tools=("onnxruntime",),
            **family.reference(job),
        ),
        *family.steps(job),
        Step(
            "verify",
            f"{_HERE}:verify_result",
            options={
                "family": job.target.family,
                "target": job.target.name,
                "settings": family.settings(job),
                "recipe": {
                    "quant": job.scheme.name,
                    "verify": job.recipe.verify.model_dump(mode="json", exclude={"text"}),
                },
            },
            inputs=("import", "canonical", "reference", *family.runs_on(job)),
            tools=family.tools,
        ),
        *family.after(job),
    )
    # Whose files the bundle takes.
    taken = ("import", "canonical", "reference", "verify", *family.ships(job))
    return Plan(job.target.name, steps, taken)


def draft_bundle(
    job: Job | NetworkJob, results: Sequence[StepResult], sources: Sources, told: Mapping[str, Any]
) -> Draft:
    """Return the bundle that a job's results make.

    Args:
        results: of all steps; transient ones may be gone.
        sources: the job's, with their digests.
        told: settings of the manifest beside those of the model and the family.
    """
    if isinstance(job, NetworkJob):
        return draft_network(job, results, sources, told)
    family = FAMILIES[job.target.family]
    entries = {result.name: result.entry for result in results if result.entry}
    contents = family.contents(job, entries)
    verification = json.loads((entries["verify"].path / VERIFICATION).read_text())
    facts = json.loads((entries["canonical"].path / FACTS).read_text())
    tools: dict[str, str] = {}
    for result in results:
        tools |= result.fingerprint.tools
    resolved = job.recipe.model_copy(update=dict(contents.resolved))
    recipe, texts = with_texts(resolved, sources, facts["vocab_size"])
    manifest = Manifest(
        target=job.target.name,
        runtime=job.target.family,
        source=Source(job.source.resolve().name, sources.digests(SOURCE)),
        recipe=recipe.model_dump(mode="json"),
        tools=dict(sorted(tools.items())),
        metrics=verification["metrics"],
        graphs=contents.graphs,
        settings={
            **facts,
            **family.settings(job),
            **contents.settings,
            **told,
        },
    )
    common: dict[str, FromFile | bytes] = {
        TOKENIZER: stored(entries["import"], TOKENIZER),
        SETTINGS: stored(entries["import"], SETTINGS),
        CONFIG: stored(entries["import"], CONFIG),
        VERIFICATION: stored(entries["verify"], VERIFICATION),
        VERIFICATION_DATA: stored(entries["reference"], VERIFICATION_DATA),
        RECIPE: recipe.to_toml(job.target.family).encode(),
        **texts,
    }
    everything = {**common, **contents.files}
    report = render_report(manifest, verification, everything)
    return Draft(manifest, {**everything, REPORT: report})


def with_texts(
    recipe: Recipe, sources: Sources, vocabulary: int
) -> tuple[Recipe, dict[str, FromFile | bytes]]:
    """Return a recipe whose texts, data and encodings are files beside it, and these files: a
    bundle's own recipe can be used again anywhere, and tells nothing of where it was made."""
    changes: dict[str, Any] = {}
    files: dict[str, FromFile | bytes] = {}
    if recipe.encodings is not None:
        files[IMPORTED] = _outside(recipe.encodings, sources, ENCODINGS_FILE)
        changes["encodings"] = Path(IMPORTED)
    if recipe.calibration.data is not None:
        name, files[name] = _data(recipe.calibration.data, sources, vocabulary)
        changes["calibration"] = recipe.calibration.model_copy(update={"data": Path(name)})
    if recipe.cuda.tiles is not None:
        files[TILES] = _outside(recipe.cuda.tiles, sources, TILES_FILE)
        changes["cuda"] = recipe.cuda.model_copy(update={"tiles": Path(TILES)})
    changes["qaic"], kept = kept_files(recipe.qaic)
    files |= {name: _outside(sources.paths[told], sources, told) for name, told in kept.items()}
    for name, source in (("calibration", CALIBRATION_TEXT), ("verify", VERIFY_TEXT)):
        section = getattr(recipe, name)
        if section.text is not None:
            files[f"{name}.txt"] = _outside(section.text, sources, source)
            changes[name] = section.model_copy(update={"text": Path(f"{name}.txt")})
    return recipe.model_copy(update=changes), files


def _data(path: Path, sources: Sources, vocabulary: int) -> tuple[str, FromFile | bytes]:
    """Return the name and contents of a copy of calibration data that needs no other file."""
    source = source_of(path)
    if source.files(path):
        return "calibration.npz", rows_as_npz(source.read(path, vocabulary))
    return f"calibration{source.suffix}", _outside(path, sources, CALIBRATION_DATA)


def _outside(path: Path, sources: Sources, name: str) -> FromFile:
    return FromFile(path, FileDigest(path.stat().st_size, sources.digests(name)[""]))


def files_to_run(folder: Path, manifest: Manifest, engine: str = "auto") -> dict[str, Path]:
    """Return where a bundle's runtime finds what it needs, by role.

    Args:
        engine: "onnx" leaves out what was compiled of a graph that runs here itself.

    Raises:
        BadInput: there is no such engine, or no choice.
        Missing: the bundle has nothing that runs here.
    """
    known = ENGINES.get(manifest.runtime, ("auto",))
    if engine not in known:
        raise BadInput(
            f"{manifest.target} has no engine {engine}",
            hint=f"known: {', '.join(known)}" if len(known) > 1 else "leave --engine out",
        )
    files = FAMILIES[manifest.runtime].files_of_bundle(folder, manifest)
    if engine == "onnx":
        files.pop("qpc", None)
    return files


def stored(entry: Entry, name: str) -> FromFile:
    """Return a file of a step's result, its digest known from the store's record."""
    return FromFile(entry.path / name, entry.record.files[name])


def describe(job: Job, plan: Plan) -> dict[str, Any]:
    """Return a plan as plain values, for `--dry-run`: the named stages of its family with the
    files that they take and make, and all its steps."""
    return {**FAMILIES[job.target.family].stages(job, plan), "steps": describe_steps(plan)}


def describe_steps(plan: Plan) -> list[dict[str, Any]]:
    """Return the steps of a plan as plain values."""
    return [
        {
            "name": step.name,
            "inputs": list(step.inputs),
            "reads": list(step.reads),
            "options": dict(step.options),
        }
        for step in plan.steps
    ]

"""Compile: plan, execute, hold the result to its thresholds, assemble the bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelc.bundle.write import check_destination, write_bundle
from modelc.errors import BadInput, BelowThreshold, Where
from modelc.pipeline.auto import choose_kinds, first_plan, is_auto
from modelc.pipeline.auto_job import base_recipe
from modelc.pipeline.events import Events, StepResult, ignore
from modelc.pipeline.execute import execute
from modelc.pipeline.explain import Reason, explain
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.limits import Limits
from modelc.pipeline.memory import PeakMemory
from modelc.pipeline.network.job import NetworkJob, is_network, make_network_job
from modelc.pipeline.plans import (
    check_requirements,
    describe,
    describe_steps,
    draft_bundle,
    lacking,
    make_plan,
)
from modelc.pipeline.recipe import AUTO, Recipe
from modelc.pipeline.sources import Sources
from modelc.pipeline.steps import IR, VERIFICATION
from modelc.pipeline.store import Store


@dataclass(frozen=True)
class CompileReport:
    """What `modelc compile` did.

    Attributes:
        bundle: None if verification failed, so that none was written.
        verification: the JSON form of the verification.
        search: what a search for kinds of weights did, None if there was none.
        seconds: wall time in all.
        peak_mb: of this process and its children together, MB (2**20 bytes); pages that two of
            them share count twice.
    """

    bundle: Path | None
    recipe: Recipe
    steps: tuple[StepResult, ...]
    seconds: float
    peak_mb: float
    verification: dict[str, Any]
    search: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return the JSON form that scripts rely on."""
        return {
            "bundle": str(self.bundle) if self.bundle else None,
            "target": self.recipe.target,
            "recipe": self.recipe.model_dump(mode="json"),
            "steps": [
                {
                    "name": step.name,
                    "status": step.status,
                    "seconds": round(step.seconds, 3),
                    "peak_mb": round(step.peak_mb, 1),
                }
                for step in self.steps
            ],
            "seconds": round(self.seconds, 3),
            "peak_mb": round(self.peak_mb, 1),
            "verify": self.verification,
            **({AUTO: self.search} if self.search else {}),
        }


def compile_source(
    source: Path,
    recipe: Recipe,
    output: Path | None = None,
    *,
    store: Store | None = None,
    events: Events = ignore,
    dump_ir: Path | None = None,
) -> CompileReport:
    """Compile a source as the recipe says; the bundle is at `output` or beside the caller.

    Where the recipe has a budget in place of a scheme, the kinds of weights are searched for first.

    Raises:
        BelowThreshold: the result is too far from the float model; nothing is written. Its
            `report` is what this would have returned.
        Missing: something is missing here; the bundle was written as far as it goes without, if
            there is a `report`.
        ModelcError: see `execute`, `choose_kinds` and `write_bundle`.
    """
    start = time.perf_counter()
    is_search = is_auto(recipe) and not is_network(source)
    job: Job | NetworkJob
    if is_network(source):
        job = make_network_job(source, recipe)
    else:
        job = make_job(source, base_recipe(recipe) if is_search else recipe, searched=is_search)
    check_requirements(job)
    destination = output or Path(default_output(job, AUTO if is_search else job.scheme.name))
    check_destination(destination)
    if dump_ir is not None:
        copy_ir((), dump_ir)  # now, rather than after the work, if it can't be written
    store = store or Store()
    with store.in_use(), PeakMemory() as memory:
        keep, limits = dump_ir is not None, _limits(job)
        choice = choose_kinds(source, recipe, store, events, limits) if is_search else None
        if choice:
            job = make_job(source, choice.recipe)
        searched = choice.document() if choice else None
        results = execute(make_plan(job), store, job.sources, events, limits=limits, keep=keep)
        if dump_ir is not None:
            copy_ir(results, dump_ir)
        verified = next(result for result in results if result.name == "verify")
        verification = json.loads((verified.path / VERIFICATION).read_text())
        if verification["passed"]:
            told = {AUTO: searched} if searched else {}
            draft = draft_bundle(job, results, Sources(store, job.sources), told)
            write_bundle(destination, draft)
    report = CompileReport(
        bundle=destination if verification["passed"] else None,
        recipe=job.recipe,
        steps=(*(choice.results if choice else ()), *results),
        seconds=time.perf_counter() - start,
        peak_mb=memory.mb,
        verification=verification,
        search=searched,
    )
    if report.bundle is None:
        raise _below_threshold(report)
    if missing := lacking(job, report.bundle):
        missing.report = report
        raise missing
    return report


def describe_source(source: Path, recipe: Recipe) -> dict[str, Any]:
    """Return what `compile_source` would do: its stages and steps, as plain values; of a search
    for kinds of weights its first steps, by which the others go."""
    if is_network(source):
        return {"stages": [], "steps": describe_steps(make_plan(make_network_job(source, recipe)))}
    if is_auto(recipe):
        _, plan = first_plan(source, recipe)
        return {"stages": [], "steps": describe_steps(plan)}
    job = make_job(source, recipe)
    return describe(job, make_plan(job))


def _limits(job: Job | NetworkJob) -> Limits:
    memory = job.recipe.memory_limit
    return Limits(memory_bytes=memory) if memory else Limits()


def explain_source(source: Path, recipe: Recipe, store: Store | None = None) -> list[Reason]:
    """Say for each step whether it would run, and why; of a search as `describe_source`."""
    job: Job | NetworkJob
    if is_network(source):
        job = make_network_job(source, recipe)
        plan = make_plan(job)
    elif is_auto(recipe):
        job, plan = first_plan(source, recipe)
    else:
        job = make_job(source, recipe)
        plan = make_plan(job)
    return explain(plan, store or Store(), job.sources)


def default_output(job: Job | NetworkJob, scheme: str) -> str:
    """Return the bundle's name when none is given: model-target-scheme."""
    stem = job.source.resolve().name.removesuffix(".gguf").removesuffix(".onnx")
    stem = stem.partition(".py:")[0]  # FILE.py:FUNCTION
    return f"{stem}-{job.recipe.target.replace(',', '-')}-{scheme}.modelc"


def copy_ir(results: Sequence[StepResult], directory: Path) -> None:
    """Copy the text forms that the lowering steps kept to `directory/<step>/NN_<pass>.txt`.

    Raises:
        BadInput: the directory can't be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for result in (result for result in results if result.entry):
            for text in sorted((result.path / IR).glob("*.txt")):
                target = directory / result.name / text.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text.read_text())
    except OSError as error:
        raise BadInput(
            f"--dump-ir can't be written: {error.strerror}", where=Where(path=str(directory))
        ) from error


def _below_threshold(report: CompileReport) -> BelowThreshold:
    failed = [check for check in report.verification["checks"] if not check["passed"]]
    listed = "; ".join(f"{check['name']} {check['detail']}" for check in failed)
    error = BelowThreshold(
        f"the compiled model is too far from the float model: {listed}",
        where=Where(step="verify", graph=report.recipe.target),
        hint="choose a more precise --quant, or lower the thresholds in the recipe's [verify]",
    )
    error.report = report
    return error

"""Snapdragon: what the family's steps are made of, and what goes into its bundle and runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.bundle.manifest import Manifest
from modelc.bundle.tokenizer import TOKENIZER
from modelc.errors import Missing, Where
from modelc.pipeline.contents_snapdragon import TWINS, contents, ships
from modelc.pipeline.decoder_job import decoder_job
from modelc.pipeline.family import Family
from modelc.pipeline.job import Job
from modelc.pipeline.plan import Plan
from modelc.pipeline.plan_rules import TOOLS, is_simulated, runs_float_model
from modelc.pipeline.plan_sdk import SDK_STAGES, require_sdk, sdk_order, uses_sdk
from modelc.pipeline.plan_snapdragon import snapdragon_steps
from modelc.pipeline.stages import describe_stages
from modelc.pipeline.steps import CONFIG
from modelc.pipeline.steps_binaries import INFO, PROOF
from modelc.pipeline.steps_rehearse import REHEARSAL


def _runs_on(job: Job) -> tuple[str, ...]:
    plan = decoder_job(job)
    if is_simulated(job):
        graphs = (name for place in plan.layout.places for name in plan.graphs(place))
        return ("describe_binaries", *(f"twin.{name}" for name in graphs))
    return ("describe_binaries", f"rehearse.{plan.layout.places[-1]}")


def _verify_tokens(job: Job) -> int:
    return min(job.recipe.verify.tokens or 256, max(decoder_job(job).layout.context_lengths))


def _settings(job: Job) -> dict[str, Any]:
    plan = decoder_job(job)
    return {
        "chipset": plan.chipset.name,
        "context_length": max(plan.layout.context_lengths),
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
    steps=snapdragon_steps,
    runs_on=_runs_on,
    ships=ships,
    tools=TOOLS,
    reference=lambda job: runs_float_model(decoder_job(job)),
    verify_tokens=_verify_tokens,
    contents=contents,
    settings=_settings,
    files_of_steps=_files_of_steps,
    files_of_bundle=_files_of_bundle,
)

"""Tunes the kernels of a source or a bundle on this machine's GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from modelc.bundle.manifest import MANIFEST
from modelc.bundle.read import open_bundle
from modelc.errors import BadInput, Missing
from modelc.frontends import read_model
from modelc.pipeline.cuda_plan import lower, plan_options
from modelc.pipeline.job import make_job
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.steps import DEFAULT_CONTEXT
from modelc.pipeline.tools import tool_versions
from modelc.targets.cuda.aot import check_triton
from modelc.targets.cuda.choose_engine import gpu_name
from modelc.targets.cuda.plan import PLAN, LaunchPlan, load_plan, save_plan
from modelc.targets.cuda.tile_table import TunedTile, read_tiles, save_tiles
from modelc.targets.cuda.tune import Measure, Subject, Tuned, measure_on_gpu, subjects, tune
from modelc.targets.find import find_target


@dataclass(frozen=True)
class ToTune:
    """What is to be tuned: a plan, and the architectures that it is compiled for."""

    plan: LaunchPlan
    arches: tuple[int, ...]

    def subjects(self, arch: int) -> tuple[Subject, ...]:
        return subjects(self.plan, arch)


def is_bundle(path: Path) -> bool:
    """Whether a path is a bundle's folder, which has its plan already."""
    return (path / MANIFEST).is_file()


def tune_bundle(path: Path) -> ToTune:
    """Return what a bundle has to tune.

    Raises:
        BadInput: it is no bundle for CUDA.
        Damaged: a file is not what it was.
    """
    files = open_bundle(path)
    if files.manifest.runtime != "cuda":
        raise BadInput(
            f"a bundle for {files.manifest.target} has no tiles",
            hint="tune what is compiled with --target cuda:sm90",
        )
    return ToTune(load_plan(path / PLAN), _arches(files.manifest.target))


def tune_source(source: Path, recipe: Recipe) -> ToTune:
    """Return what a source has to tune under a recipe; no weight is read.

    Raises:
        BadInput: as `compile` would; or the target is no GPU.
    """
    from modelc.decoder.builder import build_decoder

    if find_target(recipe.target).family != "cuda":
        raise BadInput(f"{recipe.target} has no tiles", hint="use --target cuda:sm90")
    job = make_job(source, recipe)
    decoder = read_model(source)
    most = min(decoder.config.max_context, DEFAULT_CONTEXT)
    length = max(job.recipe.context_length, default=most)
    plan, _ = lower(build_decoder(decoder, length), plan_options(job, decoder), length)
    return ToTune(plan, _arches(recipe.target))


def _arches(target: str) -> tuple[int, ...]:
    return tuple(gpu.arch for gpu in find_target(target).gpus)


def arch_here(arches: tuple[int, ...]) -> int:
    """Return the architecture of this machine's GPU, if it is one of these.

    Raises:
        Missing: there is no GPU, or it is another one.
    """
    hint = "tune on a machine with such a GPU; --dry-run lists what would be tried"
    if not (name := gpu_name()):
        raise Missing("torch finds no CUDA GPU to measure on", hint=hint)
    import torch

    major, minor = torch.cuda.get_device_capability(0)
    arch = 10 * major + minor
    if arch not in arches:
        wanted = ", ".join(f"sm{one}" for one in arches)
        raise Missing(f"{name} is sm{arch}, the target is {wanted}", hint=hint)
    return arch


def tune_all(
    found: ToTune,
    output: Path,
    *,
    arch: int | None = None,
    measure: Measure | None = None,
    tell: Callable[[int, int, Tuned], None] = lambda done, count, tuned: None,
) -> list[Tuned]:
    """Tune all kernels; rows go into the table `output`, after each kernel, in place of those of
    the same shape that it has.

    Args:
        arch: None for that of this machine's GPU.
        measure: None for this machine's GPU.
        tell: called after each kernel with how many are done, of how many.

    Raises:
        BadInput: `output` is no table.
        Missing: there is no such GPU, or no Triton.
        ToolFailed: a kernel's own tile does not run.
    """
    rows: list[TunedTile] = list(read_tiles(output)) if output.exists() else []
    check_triton()
    chosen = arch if arch is not None else arch_here(found.arches)
    triton = tool_versions(("triton",))["triton"]
    tuned: list[Tuned] = []
    with TemporaryDirectory(prefix="modelc-tune-") as folder:
        workdir = Path(folder)
        save_plan(found.plan, workdir / PLAN)
        how = measure or measure_on_gpu(workdir / PLAN, workdir)
        every = found.subjects(chosen)
        for subject in every:
            one = tune(subject, chosen, how, triton=triton, workdir=workdir)
            tuned.append(one)
            if one.row is not None:
                rows.append(one.row)
                save_tiles(rows, output)
            tell(len(tuned), len(every), one)
    return tuned

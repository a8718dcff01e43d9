"""Tunes a launch plan: compiles each kernel with many tiles, measures them, keeps the fastest."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import log, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from modelc.errors import ToolFailed, Where
from modelc.process import run_worker
from modelc.targets.cuda.aot import Cubin, compile_variants
from modelc.targets.cuda.candidates import candidates
from modelc.targets.cuda.choices import CHOICES
from modelc.targets.cuda.gpus import SHARED_BYTES
from modelc.targets.cuda.kernels_file import FILE, save_kernels
from modelc.targets.cuda.plan import LaunchPlan
from modelc.targets.cuda.tile_table import TunedTile, matter
from modelc.targets.cuda.tiles import launched_tokens
from modelc.targets.cuda.trials import Trial
from modelc.targets.cuda.variant import Variant

MARGIN: Final = 0.01
"""A tile that is less than so much faster than the default is noise."""
_CRASHES: Final = "crashes"
_SECONDS: Final = 600.0  # of one kernel's trials, at most


@dataclass(frozen=True)
class Subject:
    """A kernel as a plan launches it.

    Attributes:
        key: of the plan's variant.
        functions: those of the fewest and of the most tokens that launch it.
        tokens: fewest and most.
        tiles: the variant with each tile that is tried, its default first.
    """

    key: str
    functions: tuple[str, ...]
    tokens: tuple[int, int]
    tiles: tuple[Variant, ...]

    @property
    def default(self) -> Variant:
        return self.tiles[0]


Measure = Callable[[Subject, Sequence[Variant], Path], tuple[list[Trial], str]]
"""Tries tiles of a subject, whose cubins lie in a folder; returns how they did, and the GPU's
name."""


@dataclass(frozen=True)
class Tuned:
    """What became of a kernel.

    Attributes:
        row: None if its default could not be measured, or has no rival.
        dropped: what does not count, by the reason.
    """

    subject: Subject
    row: TunedTile | None
    dropped: dict[str, int]


def subjects(plan: LaunchPlan, arch: int) -> tuple[Subject, ...]:
    """Return a plan's kernels that have more tiles than one on an architecture."""
    found = []
    for key, tokens in launched_tokens(plan).items():
        variant = plan.variants[key]
        tiles = candidates(variant, arch)
        if len(tiles) > 1 and variant.row.since <= arch:
            names = {
                function.most["tokens"]: function.name
                for function in plan.functions
                if any(call.kernel == key for call in function.calls)
            }
            functions = tuple(dict.fromkeys(names[count] for count in tokens))
            found.append(Subject(key, functions, tokens, tiles))
    return tuple(found)


def tune(subject: Subject, arch: int, measure: Measure, *, triton: str, workdir: Path) -> Tuned:
    """Return the fastest tile of a kernel. Over several sizes the geometric mean counts.

    Raises:
        ToolFailed: its own default doesn't compile, or doesn't run.
    """
    with TemporaryDirectory(prefix="tune-", dir=workdir) as folder:
        kernels = Path(folder, "kernels", f"sm{arch}")
        cubins, dropped = compile_tiles(subject.tiles, arch, kernels, workdir=Path(folder))
        usable = [tile for tile in subject.tiles if tile.key in cubins]
        if subject.default.key not in cubins:
            raise ToolFailed(
                f"the default tile of {subject.default.kernel} can't be used",
                where=Where(step="tune", graph=f"sm{arch}"),
                hint="; ".join(dropped),
            )
        save_kernels({tile.key: tile for tile in usable}, cubins, kernels / FILE)
        trials, gpu = measure(subject, usable, kernels.parent)
    for trial in trials:
        if trial.problem:
            reason = _CRASHES if trial.problem == _CRASHES else "gives other numbers"
            dropped[reason] = dropped.get(reason, 0) + 1
    best = choose(trials)
    if best is None:
        return Tuned(subject, None, dropped)
    tile, variant = usable[best].tile, subject.default
    row = TunedTile(
        kernel=variant.kernel,
        arch=arch,
        types=dict(variant.types),
        constants=matter(variant.constants),
        tokens=subject.tokens,
        tile={name: tile.values[name] for name in CHOICES[variant.kernel].values},
        warps=tile.warps,
        stages=tile.stages,
        microseconds=trials[best].microseconds[-1],
        default_microseconds=trials[0].microseconds[-1],
        gpu=gpu,
        triton=triton,
    )
    return Tuned(subject, row, dropped)


def choose(trials: Sequence[Trial]) -> int | None:
    """Return the place of the fastest, None if the first, the default, was not measured."""
    if not trials[0].microseconds:
        return None
    means = [
        sum(map(log, trial.microseconds)) / len(trial.microseconds)
        if trial.microseconds and not trial.problem
        else float("inf")
        for trial in trials
    ]
    best = min(range(len(means)), key=means.__getitem__)
    return best if means[best] < means[0] + log(1 - MARGIN) else 0


def compile_tiles(
    tiles: Sequence[Variant], arch: int, folder: Path, *, workdir: Path
) -> tuple[dict[str, Cubin], dict[str, int]]:
    """Compile what can be compiled, several at a time, each in a child process.

    Returns the cubins that a GPU could run, by key, and how many tiles are dropped, by reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    most = max(os.cpu_count() or 1, 1)
    size = max(-(-len(tiles) // most), 1)
    parts = [tiles[first : first + size] for first in range(0, len(tiles), size)]
    cubins: dict[str, Cubin] = {}
    with ThreadPoolExecutor(most) as pool:
        for found in pool.map(lambda part: _compile(part, arch, folder, workdir), parts):
            cubins |= found
    large = [key for key, cubin in cubins.items() if cubin.shared > SHARED_BYTES[arch]]
    counts = {
        "doesn't compile": len(tiles) - len(cubins),
        "wants more shared memory than there is": len(large),
    }
    for key in large:
        del cubins[key]
    return cubins, {reason: count for reason, count in counts.items() if count}


def _compile(tiles: Sequence[Variant], arch: int, folder: Path, workdir: Path) -> dict[str, Cubin]:
    """One that fails takes its child with it: halves are compiled again, until it is alone."""
    with TemporaryDirectory(prefix="compile-", dir=workdir) as scratch:
        try:
            return compile_variants(tiles, arch, folder, workdir=Path(scratch))
        except ToolFailed:
            if len(tiles) == 1:
                return {}
    half = len(tiles) // 2
    first = _compile(tiles[:half], arch, folder, workdir)
    return first | _compile(tiles[half:], arch, folder, workdir)


def measure_on_gpu(plan_file: Path, workdir: Path) -> Measure:
    """Return what measures on this machine's GPU, in child processes: a launch that goes astray
    ends the GPU's context, so what crashes together is tried again one by one."""

    def ask(subject: Subject, tiles: Sequence[Variant], kernels: Path) -> tuple[list[Trial], str]:
        reply = run_worker(
            "modelc.targets.cuda.tune_worker",
            {
                "plan": str(plan_file.resolve()),
                "key": subject.key,
                "functions": list(subject.functions),
                "kernels": str(kernels.resolve()),
                "tiles": [tile.document() for tile in tiles],
            },
            workdir=workdir,
            timeout_s=_SECONDS,
            where=Where(step="tune", graph=subject.key),
        )
        trials = [Trial(tuple(one["microseconds"]), one["problem"]) for one in reply["trials"]]
        return trials, str(reply["gpu"])

    def measure(
        subject: Subject, tiles: Sequence[Variant], kernels: Path
    ) -> tuple[list[Trial], str]:
        try:
            return ask(subject, tiles, kernels)
        except ToolFailed:
            default, gpu = ask(subject, tiles[:1], kernels)
        trials = list(default)
        for tile in tiles[1:]:
            try:
                pair, _ = ask(subject, [tiles[0], tile], kernels)
                trials.append(pair[1])
            except ToolFailed:
                trials.append(Trial(problem=_CRASHES))
        return trials, gpu

    return measure


def speedup(tuned: Sequence[Tuned]) -> float:
    """Return how much faster the tuned kernels are, as a geometric mean."""
    rows = [one.row for one in tuned if one.row is not None]
    ratios = [row.default_microseconds / row.microseconds for row in rows]
    return prod(ratios) ** (1 / len(ratios)) if ratios else 1.0

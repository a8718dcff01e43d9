"""The steps that a scheme's weights and encodings come from, and a target to ask for them."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, nearest
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.plan import Plan
from modelc.pipeline.plans import make_plan
from modelc.pipeline.recipe import Recipe
from modelc.quant.aliases import ALIASES
from modelc.quant.schemes import SCHEMES
from modelc.targets.find import all_targets, find_target

_STEPS: Final = ("import", "canonical", "weights", "encodings")
# Nothing of it matters to weights and encodings, but some of it could be refused.
_NOT_COMPILED: Final = {"ar": (1,), "splits": "auto", "format": ("genie",), "memory_limit": 1 << 60}


def simulation_job(source: Path, recipe: Recipe, *, searched: bool = False) -> Job:
    """Resolve a recipe for a source, without what only compiling goes by: graphs' sizes, parts and
    memory. `searched` is as for `make_job`.

    Raises:
        BadInput: as `make_job`.
    """
    if find_target(recipe.target).chipset is not None:
        recipe = recipe.model_copy(update=_NOT_COMPILED)
    return make_job(source, recipe, searched=searched)


def simulation_plan(job: Job) -> Plan:
    """Return those of a compile's steps that its scheme's weights and encodings come from."""
    steps = {step.name: step for step in make_plan(job).steps}
    taken = tuple(name for name in _STEPS if name in steps)
    needed, waiting = set[str](), list[str](taken)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += steps[name].inputs
    chosen = tuple(step for name, step in steps.items() if name in needed)
    return Plan(job.target.name, chosen, taken)


def settle_target(file: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a recipe with a target that takes its scheme, for those who ask about
    the scheme alone: if neither they nor the recipe's file name one. Without a scheme it is the
    float model.

    Raises:
        BadInput: there is no such scheme.
    """
    asked = {**_asked_in(file), **options}
    if asked.get("target"):
        return dict(options)
    if not asked.get("quant"):
        return {**options, "target": "cpu", "quant": "fp32"}
    return {**options, "target": target_of(str(asked["quant"]))}


def target_of(scheme: str) -> str:
    """Return a target whose compile takes a scheme: the CPU, or the first chipset with the newest
    HTP.

    Raises:
        BadInput: there is no such scheme.
    """
    if scheme == "auto":
        raise BadInput("what --quant auto chooses goes by the target", hint="give --target")
    families: Collection[str] = ALIASES[scheme].schemes.keys() if scheme in ALIASES else ()
    if scheme in SCHEMES:
        families = SCHEMES[scheme].families
    if not families:
        raise BadInput(
            f"no quantisation scheme is called {scheme!r}", hint=nearest(scheme, SCHEMES)
        )
    if "cpu" in families:
        return "cpu"
    chips = [target.chipset for target in all_targets() if target.chipset and target.compiles]
    return max(chips, key=lambda chip: int(chip.htp_arch.removeprefix("v"))).name


def _asked_in(file: Path | None) -> dict[str, Any]:
    """Return what a recipe's file says, nothing if it can't be read: that is told elsewhere."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError, RecursionError):
        return {}

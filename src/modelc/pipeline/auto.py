"""Mixed precision by a budget: which kind of weights every module gets, found by measuring.

First each matrix is measured by itself in every kind that the target takes, once
(`quant.sensitivity`). That orders all assignments worth a thought on one path from the most precise
to the smallest (`quant.assign`). Then assignments of the path are tried, by bisection: the whole
model is simulated with all that its scheme rounds, on a text of some thousand tokens, until the
smallest is found that meets the budget. What comes out is an ordinary recipe.

Single measurements are of matrices rounded to nearest, without a recipe's algorithms. Of a small
model each trial lets these work; a large one is tried without them, and is the better for them
afterwards. Either way the compiled model is held to the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelc.errors import BadInput
from modelc.pipeline.auto_job import AutoJob, auto_job, base_recipe
from modelc.pipeline.events import Events, StepResult, ignore
from modelc.pipeline.job import Job, make_job
from modelc.pipeline.limits import Limits
from modelc.pipeline.plan import Plan
from modelc.pipeline.plan_auto import sensitivity_plan, trial_plan
from modelc.pipeline.plans import make_plan
from modelc.pipeline.recipe import AUTO, Recipe
from modelc.pipeline.search import Search, Trial
from modelc.pipeline.settle import settled_recipe
from modelc.pipeline.store import Store
from modelc.quant.budget import EXAMPLES, Budget, Cost, parse_budget


@dataclass(frozen=True)
class Choice:
    """What came of a search.

    Attributes:
        recipe: an ordinary one, with a scheme, overrides and thresholds.
        trials: in the order of their making; `chosen` is one of them.
        results: of the steps that ran.
    """

    recipe: Recipe
    budget: Budget
    chosen: Trial
    trials: tuple[Trial, ...]
    candidates: Mapping[str, Sequence[str]]
    results: tuple[StepResult, ...]

    def document(self) -> dict[str, Any]:
        """Return what the bundle's manifest tells of it."""
        kinds = dict.fromkeys(kind for kinds in self.candidates.values() for kind in kinds)
        return {
            "budget": str(self.budget),
            "candidates": list(kinds),
            "measured": _told(self.chosen.text),
            "trials": [_told(trial.text) for trial in self.trials],
        }


def is_auto(recipe: Recipe) -> bool:
    """Return whether a recipe leaves the kinds of weights to a search.

    Raises:
        BadInput: it has a budget without a search, or a search without a budget.
    """
    if recipe.quant == AUTO and recipe.budget is None:
        raise BadInput("--quant auto has no --budget", hint=f"such as --budget {EXAMPLES}")
    if recipe.quant != AUTO and recipe.budget is not None:
        raise BadInput("--budget is for --quant auto", hint="leave one of them out, or give both")
    return recipe.quant == AUTO


def choose_kinds(
    source: Path,
    recipe: Recipe,
    store: Store,
    events: Events = ignore,
    limits: Limits | None = None,
) -> Choice:
    """Search for the smallest kinds of weights that meet a recipe's budget.

    Raises:
        BelowThreshold: even the most precise kinds exceed the budget; says by how much.
        BadInput: even the smallest kinds are larger than the budget, or as `auto_job`.
        ModelcError: as `execute`.
    """
    budget = parse_budget(recipe.budget or "")
    auto = auto_job(source, recipe)
    _check_the_rest(source, recipe, auto)
    search = Search(auto, budget, store, events, limits)
    chosen = search.smallest() if budget.is_size else search.bisect()
    return Choice(
        recipe=settled_recipe(recipe, auto, chosen.kinds, budget, chosen.verified),
        budget=budget,
        chosen=chosen,
        trials=tuple(search.trials),
        candidates=auto.candidates,
        results=tuple(result for result in search.results if result.status == "ran"),
    )


def _check_the_rest(source: Path, recipe: Recipe, auto: AutoJob) -> None:
    """Raise what a compile would, with the kinds that take the least memory: now, not after hours
    of searching."""
    smallest = auto.recipe({module: kinds[-1] for module, kinds in auto.candidates.items()})
    update = {"overrides": smallest.overrides}
    settled = base_recipe(recipe).model_copy(update=update)
    make_plan(make_job(source, settled, searched=True))


def first_plan(source: Path, recipe: Recipe) -> tuple[Job, Plan]:
    """Return the steps of a search as far as they are known before: the measurement, and the trial
    of the most precise kinds."""
    parse_budget(recipe.budget or "")
    auto = auto_job(source, recipe)
    kinds = {module: kinds[0] for module, kinds in auto.candidates.items()}
    measure, trial = sensitivity_plan(auto), trial_plan(auto, kinds)
    steps = {step.name: step for step in (*measure.steps, *trial.steps)}
    return auto.job, Plan(trial.target, tuple(steps.values()), (*measure.taken, *trial.taken))


def _told(cost: Cost) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in vars(cost).items()}

"""From the kinds of weights that a search found to an ordinary recipe."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

from modelc.pipeline.auto_job import AutoJob
from modelc.pipeline.job import uses_calibration
from modelc.pipeline.recipe import Recipe
from modelc.pipeline.recipe_sections import Calibration
from modelc.quant.budget import Budget, Cost
from modelc.quant.overrides import scheme_kinds
from modelc.quant.patterns import as_overrides
from modelc.quant.schemes import SCHEMES, Scheme

# How much more than its simulation a compiled model may lose; and by how much its perplexity of a
# few hundred tokens may be off the simulation's: 0.0006 was seen, of HTP's own arithmetic.
ROOM: Final = 1.05
DRIFT: Final = 0.002


def settled_recipe(
    recipe: Recipe, auto: AutoJob, kinds: Mapping[str, str], budget: Budget, verified: Cost
) -> Recipe:
    """Return the recipe with kinds in place of the budget, held to it by its thresholds.

    Args:
        verified: what the simulation of these kinds costs over the verification's tokens.
    """
    scheme = _nearest_scheme(auto, kinds)
    asked = {name: value for name, value in recipe.verify if value is not None}
    lowest = _lowest_thresholds(auto.job.scheme, set(kinds.values()))
    verify = {**lowest, **_held_to(budget, verified), **asked}
    # Where only the search had a use for it, the recipe that it leads to has none.
    calibration = recipe.calibration if uses_calibration(recipe, scheme) else Calibration()
    return recipe.model_copy(
        update={
            "quant": scheme.name,
            "budget": None,
            "overrides": as_overrides(kinds, scheme_kinds(auto.shapes, scheme)),
            "calibration": calibration,
            "verify": recipe.verify.model_copy(update=verify),
        }
    )


def _nearest_scheme(auto: AutoJob, kinds: Mapping[str, str]) -> Scheme:
    """Return the scheme that is like the base in all but the kind of most weights."""
    base, counts = auto.job.scheme, Counter[str]()
    for module, kind in kinds.items():
        counts[kind] += math.prod(auto.shapes[module])
    alike = [row for row in SCHEMES.values() if _frame(row) == _frame(base)]
    return max((base, *alike), key=lambda row: counts[row.weights])


def _frame(scheme: Scheme) -> tuple[object, ...]:
    return scheme.families, scheme.activations, scheme.kv, scheme.embedding


def _lowest_thresholds(base: Scheme, kinds: set[str]) -> dict[str, float]:
    """Return the lowest thresholds of the schemes of these kinds: the budget takes their part."""
    rows = [r for r in SCHEMES.values() if _frame(r) == _frame(base) and r.weights in kinds]
    rows = rows or [base]
    return {
        "min_sqnr_db": min(row.min_sqnr_db for row in rows),
        "min_top1": min(row.min_top1 for row in rows),
        "max_perplexity_ratio": max(row.max_perplexity_ratio for row in rows),
    }


def _held_to(budget: Budget, verified: Cost) -> dict[str, float]:
    """Return the threshold that is the budget itself; or, where the verification's tokens are so
    few that by chance the simulation exceeds it there, what the simulation has."""
    limit = budget.limit
    match budget.metric:
        case "ppl":
            by_chance = 1 + ROOM * (verified.perplexity_ratio - 1) + DRIFT
            return {"max_perplexity_ratio": max(limit, round(by_chance, 4))}
        case "kl":
            return {"max_kl_divergence": max(limit, round(ROOM * verified.kl_divergence, 5))}
        case "sqnr":
            return {"min_sqnr_db": min(limit, round(verified.sqnr_db - _decibels(ROOM), 2))}
    return {}


def _decibels(ratio: float) -> float:
    return 10 * math.log10(ratio)

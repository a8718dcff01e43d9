"""The search for kinds of weights within a budget: trials along a path of assignments."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, BelowThreshold, Where
from modelc.pipeline.auto_job import AutoJob
from modelc.pipeline.events import Events, StepLog, StepResult
from modelc.pipeline.execute import execute
from modelc.pipeline.limits import Limits
from modelc.pipeline.plan import Plan
from modelc.pipeline.plan_auto import sensitivity_plan, trial_plan
from modelc.pipeline.steps_sensitivity import SENSITIVITY
from modelc.pipeline.steps_trial import TRIAL
from modelc.pipeline.store import Store
from modelc.quant.assign import AssignmentPath, assignment_path, within_size
from modelc.quant.budget import Budget, Cost

# How often a matrix may be left behind, and from which share on a budget counts as used up.
ROUNDS: Final = 4
FULL: Final = 0.9


@dataclass(frozen=True)
class Trial:
    """An assignment that was measured.

    Attributes:
        kinds: module -> kind.
        text, verified: what it costs over the whole text, which the budget is held against, and
            over the few tokens that a compiled model is verified on.
    """

    kinds: Mapping[str, str]
    text: Cost
    verified: Cost


class Search:
    """One search: its path, and the trials that were made."""

    def __init__(
        self, auto: AutoJob, budget: Budget, store: Store, events: Events, limits: Limits | None
    ) -> None:
        self.auto, self.budget = auto, budget
        self.trials: list[Trial] = []
        self.results: list[StepResult] = []
        self._store, self._events, self._limits = store, events, limits
        costs = _read(self._execute(sensitivity_plan(auto)) / SENSITIVITY)
        self.path = assignment_path(auto.options(costs))

    def smallest(self) -> Trial:
        """Return the most precise assignment within a budget of bytes or bits, tried."""
        limit = self.budget.limit * (self.auto.weights / 8 if self.budget.metric == "bits" else 1)
        fixed = self.auto.fixed if self.budget.metric == "size" else 0
        if found := within_size(self.path, math.floor(limit - fixed)):
            return self._try(*found)
        raise BadInput(
            f"the smallest kinds of weights make {self._told(self.path.sizes()[-1])}, more than "
            f"{self.budget}",
            hint="allow more, or choose a smaller model",
        )

    def bisect(self) -> Trial:
        """Return the smallest assignment that was found to meet the budget.

        The path is bisected as if costs only rose on it. Where a large matrix takes the next step,
        much of the budget may be left: then it stays as it is, and the others go on.
        """
        path, point, best = self.path, 0, self._try(self.path, 0)
        if self.budget.used(best.text) > 1:
            raise self._unmet(best)
        for _ in range(ROUNDS):
            high = len(path)
            while high - point > 1:
                middle = (point + high) // 2
                tried = self._try(path, middle)
                if self.budget.used(tried.text) <= 1:
                    best, point = tried, middle
                else:
                    high = middle
            if high == len(path) or self.budget.used(best.text) > FULL:
                break
            path = path.without(point)
        return best

    def _try(self, path: AssignmentPath, point: int) -> Trial:
        """Measure the assignment at a point of a path."""
        kinds = path.kinds(point)
        found = _read(self._execute(trial_plan(self.auto, kinds)) / TRIAL)
        size = self._sized(path.sizes()[point])
        text, verified = (_cost(found[part], size) for part in ("text", "verified"))
        self.trials.append(Trial(kinds, text, verified))
        self._events(
            StepLog(
                "trial",
                f"{self._told(path.sizes()[point])}: perplexity x {text.perplexity_ratio:.4f}, KL "
                f"divergence {text.kl_divergence:.4f}, {self.budget.used(text):.0%} of the budget",
            )
        )
        return self.trials[-1]

    def _execute(self, plan: Plan) -> Path:
        """Execute a plan and return the folder of its last step's result."""
        sources = self.auto.job.sources
        done = execute(plan, self._store, sources, self._events, limits=self._limits)
        self.results += done
        return next(result.path for result in done if result.name in plan.taken)

    def _sized(self, size: int) -> Cost:
        """Return the cost of an assignment of so many bytes as far as that tells it."""
        bits = 8 * size / self.auto.weights
        return Cost(math.nan, math.nan, math.nan, self.auto.fixed + size, bits)

    def _told(self, size: int) -> str:
        cost = self._sized(size)
        return f"{cost.size / 1e6:.2f} MB ({cost.bits:.2f} bits per weight)"

    def _unmet(self, best: Trial) -> BelowThreshold:
        found = best.text
        return BelowThreshold(
            f"the budget {self.budget} can't be met: the most precise kinds, "
            f"{self._told(found.size - self.auto.fixed)}, have {found.perplexity_ratio - 1:+.2%} "
            f"perplexity, {found.sqnr_db:.1f} dB SQNR and a KL divergence of "
            f"{found.kl_divergence:.4f}",
            where=Where(step="trial", graph=self.auto.job.target.name),
            hint="allow more, or choose a scheme that rounds less",
        )


def _cost(figures: Mapping[str, float | None], size: Cost) -> Cost:
    """Return what was measured; a figure that was not finite is of a model that is lost, but for
    the SQNR of equal logits."""

    def of(name: str, otherwise: float) -> float:
        value = figures[name]
        return otherwise if value is None else value

    divergence = of("kl_divergence", math.inf)
    sqnr = of("sqnr_db", math.inf if divergence == 0 else -math.inf)
    return Cost(of("perplexity_ratio", math.inf), sqnr, divergence, size.size, size.bits)


def _read(path: Path) -> Any:
    return json.loads(path.read_text())

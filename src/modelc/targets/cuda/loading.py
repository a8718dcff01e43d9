"""Loads a launch plan with its weights onto an engine."""

from __future__ import annotations

from pathlib import Path

from modelc.targets.cuda.choose_engine import choose_engine
from modelc.targets.cuda.executor import Executor
from modelc.targets.cuda.memory import allocate
from modelc.targets.cuda.plan import load_plan, weights_name
from modelc.targets.cuda.ranks import Ranks


def load_executor(plan_file: Path, engine: str, kernels: Path | None, ranks: Ranks) -> Executor:
    """Load a rank's share of a bundle.

    Args:
        plan_file: the weights lie beside it.
        engine: a name of `choose_engine.ENGINES`.
        kernels: folder with the cubins.

    Raises:
        Damaged: a file isn't what it says.
        Missing: the engine can't run here.
    """
    plan = load_plan(plan_file)
    chosen = choose_engine(engine, kernels, ranks.rank)
    full = plan.max_batch * -(-plan.context_length // plan.cache.page)
    weights = plan_file.with_name(weights_name(ranks.rank, plan.ranks))
    pages = ranks.least(chosen.pages(plan, full))
    return Executor(plan, allocate(plan, weights, chosen.device, pages), chosen, ranks)

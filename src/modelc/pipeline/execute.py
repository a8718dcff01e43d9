"""Executes a plan: runs the steps whose results are not in the store, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from modelc.files import space_needed
from modelc.pipeline import history
from modelc.pipeline.events import Events, StepFinished, StepResult, StepStarted, ignore
from modelc.pipeline.fingerprint import fingerprints
from modelc.pipeline.perform import Performance
from modelc.pipeline.plan import Plan
from modelc.pipeline.sources import Sources
from modelc.pipeline.store import SPACE_HINT, Store
from modelc.pipeline.survey import survey


def execute(
    plan: Plan, store: Store, sources: Mapping[str, Path], events: Events = ignore
) -> list[StepResult]:
    """Bring every step's result into the store and return what was done, in the plan's order.

    A result is in the store as soon as its step ends: what was interrupted is taken up at the first
    step that had not ended. A damaged result is set aside and made again. What another process is
    making is waited for and used.

    Args:
        sources: name -> file or folder, for all that the steps declare in `reads`.

    Raises:
        ModelcError: as a step raised it, naming the step; or no space left.
        BadInput: a source is not there.
        Missing: a tool that a step declares is not installed.
    """
    outside = Sources(store, sources)
    with space_needed(store.root, SPACE_HINT), store.in_use():
        stats = {name: outside.stats(name) for name in plan.reads()}
        prints = fingerprints(plan, outside.digests)
        found = survey(plan, prints, store)
        results: dict[str, StepResult] = {}
        for index, step in enumerate(plan.steps, 1):
            events(StepStarted(step.name, index, len(plan.steps)))
            performance = Performance(
                step=step,
                fingerprint=prints[step.name],
                store=store,
                sources=outside,
                stats=stats,
                inputs={name: results[name].path for name in step.inputs},
                events=events,
            )
            results[step.name] = performance.result(check_contents=found[step.name].read)
            history.remember(store, plan.target, outside.origin, prints[step.name])
            events(StepFinished(results[step.name]))
    return list(results.values())

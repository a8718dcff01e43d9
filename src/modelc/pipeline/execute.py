"""Executes a plan: runs the steps whose results are not in the store, several at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from modelc.files import space_needed
from modelc.pipeline import history
from modelc.pipeline.events import (
    Event,
    Events,
    StepFailed,
    StepFinished,
    StepResult,
    StepStarted,
    ignore,
)
from modelc.pipeline.fingerprint import Fingerprint, fingerprints
from modelc.pipeline.limits import Limits
from modelc.pipeline.perform import Performance
from modelc.pipeline.plan import Plan
from modelc.pipeline.schedule import Schedule, Stopped
from modelc.pipeline.sources import Sources
from modelc.pipeline.step import Step
from modelc.pipeline.store import SPACE_HINT, Store
from modelc.pipeline.survey import Finding, survey
from modelc.pipeline.transient import Transients


def execute(
    plan: Plan,
    store: Store,
    sources: Mapping[str, Path],
    events: Events = ignore,
    *,
    limits: Limits | None = None,
    keep: bool = False,
) -> list[StepResult]:
    """Bring every needed result into the store and return what was done, in the plan's order.

    A result is in the store as soon as its step ends: what was interrupted is taken up at the
    steps that had not ended. A damaged result is set aside and made again. What another process is
    making is waited for and used. A transient result is made only if a step that reads it has to
    run, and removed when these are done.

    After a failure no further step starts, and those that run are waited for. An interrupt
    (KeyboardInterrupt) stops them.

    Args:
        sources: name -> file or folder, for all that the steps declare in `reads`.
        limits: by default the cores and the memory that are free.
        keep: make and keep transient results like all others.

    Raises:
        ModelcError: as a step raised it, naming the step, the first in the plan's order if several
            failed; or no space left.
        BadInput: a source is not there.
        Missing: a tool that a step declares is not installed.
    """
    outside = Sources(store, sources)
    with space_needed(store.root, SPACE_HINT), store.in_use():
        prints = fingerprints(plan, outside.digests)
        store.claim(fingerprint.key for fingerprint in prints.values())
        found = survey(plan, prints, store, keep=keep)
        run = _Run(plan, store, outside, prints, found, keep, _one_at_a_time(events))
        Schedule(run.needed, limits or Limits()).run(run.perform)
    return run.in_order()


class _Run:
    """One execution: what its threads share.

    Attributes:
        needed: the steps to perform, in the plan's order.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        outside: Sources,
        prints: Mapping[str, Fingerprint],
        found: Mapping[str, Finding],
        keep: bool,
        events: Events,
    ) -> None:
        self._plan, self._store, self._outside, self._events = plan, store, outside, events
        self._prints, self._found = prints, found
        self._stats = {name: outside.stats(name) for name in plan.reads()}
        self._count = itertools.count(1)
        self._results: dict[str, StepResult] = {}
        self.needed = [step for step in plan.steps if found[step.name].needed]
        pending = {step.name for step in self.needed}
        self._transients = Transients(
            () if keep else plan.transient(), plan, prints, store, pending
        )
        for name in [step.name for step in plan.steps if step.name not in pending]:
            self._done(StepResult(name, "not needed", 0.0, 0.0, prints[name], None))

    def perform(self, step: Step, schedule: Schedule) -> None:
        """Bring one step's result into the store; its inputs are there."""
        name = step.name
        self._events(StepStarted(name, next(self._count), len(self.needed)))
        performance = Performance(
            step=step,
            fingerprint=self._prints[name],
            store=self._store,
            sources=self._outside,
            stats=self._stats,
            inputs={
                source: entry.path
                for source in step.inputs
                if (entry := self._results[source].entry)
            },
            events=self._events,
            ending=schedule.ending,
        )
        try:
            result = performance.result(check_contents=self._found[name].read)
        except Exception as error:  # whatever it is, the others must hear of it
            others = tuple(other for other in schedule.end() if other != name)
            if others and not isinstance(error, Stopped):
                self._events(StepFailed(name, str(error), others))
            raise
        self._done(result)
        self._transients.done(name)
        self._events(StepFinished(result))

    def in_order(self) -> list[StepResult]:
        """Return the results of all steps in the plan's order."""
        results = [self._results[step.name] for step in self._plan.steps]
        removed = self._transients.removed
        return [replace(r, entry=None) if r.name in removed else r for r in results]

    def _done(self, result: StepResult) -> None:
        self._results[result.name] = result
        origin = self._outside.origin
        history.remember(self._store, self._plan.target, origin, self._prints[result.name])


def _one_at_a_time(events: Events) -> Events:
    """Return `events` for any number of threads."""
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            events(event)

    return tell

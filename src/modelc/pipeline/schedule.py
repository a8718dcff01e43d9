"""Runs the steps of a plan as their inputs get ready, several at once.

Steps whose work is done by child processes (`isolated`, `waits`) run in threads that wait for them.
The others run in the thread that called, one at a time: two of them would only share Python's lock,
and an interrupt reaches them at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from modelc.pipeline.limits import Limits
from modelc.pipeline.step import Step
from modelc.process import Leash


class Stopped(Exception):
    """A step gave up because another one failed or the user interrupted."""


_TURN_S: Final = 0.5  # on Windows a wait without an end can't be interrupted

Perform = Callable[[Step, "Schedule"], None]


class Schedule:
    """Which step may start; shared by the threads that run them.

    Of the steps that may start, the first in the plan's order does, so that a plan that lists its
    parts one after the other also finishes them so.

    Attributes:
        ending: set once no further step starts, because of a failure or an interrupt.
    """

    def __init__(self, steps: Sequence[Step], limits: Limits) -> None:
        self.ending = threading.Event()
        self._limits = limits
        self._order = [step.name for step in steps]
        self._todo = {step.name: step for step in steps}
        self._running: dict[str, Step] = {}
        self._failed: dict[str, BaseException] = {}
        self._changed = threading.Condition()

    def run(self, perform: Perform) -> None:
        """Call `perform` with each step and this, after it returned for the step's inputs.

        After a failure no further step starts; those that run are waited for, as their results may
        be of use. On an interrupt their children are killed.

        Raises:
            BaseException: the first, in the plan's order, that `perform` raised.
        """
        leash = Leash()
        away = sum(_runs_away(step) for step in self._todo.values())
        try:
            for _ in range(min(self._limits.jobs, away)):
                threading.Thread(target=self._work_away, args=(perform, leash), daemon=True).start()
            self._work(perform, away=False)
            self._wait()
        except BaseException:  # an interrupt; failures of steps don't come this way
            self.end()
            leash.end()
            self._wait()
            raise
        self._raise_first()

    def end(self) -> tuple[str, ...]:
        """Start no further step; return the names of those that run, in the order they started."""
        with self._changed:
            self.ending.set()
            self._changed.notify_all()
            return tuple(self._running)

    def _work_away(self, perform: Perform, leash: Leash) -> None:
        with leash.held():
            self._work(perform, away=True)

    def _work(self, perform: Perform, *, away: bool) -> None:
        while step := self._take(away):
            error: BaseException | None = None
            try:
                perform(step, self)
            except BaseException as raised:  # told by the thread that waits for all
                error = raised
                if not isinstance(raised, Exception) and not away:
                    raise  # an interrupt, which is this thread's to pass on
            finally:
                self._finish(step, error)

    def _take(self, away: bool) -> Step | None:
        """Wait for a step to start; None if there is none any more."""
        with self._changed:
            while not self.ending.is_set():
                mine = [step for step in self._todo.values() if _runs_away(step) == away]
                if not mine:
                    return None
                for step in mine:
                    if self._may_start(step):
                        self._running[step.name] = self._todo.pop(step.name)
                        return step
                self._changed.wait(_TURN_S)
            return None

    def _may_start(self, step: Step) -> bool:
        if any(name in self._todo or name in self._running for name in step.inputs):
            return False
        if not self._running:
            return True
        needed = step.memory + sum(other.memory for other in self._running.values())
        return len(self._running) < self._limits.jobs and needed <= self._limits.memory_bytes

    def _finish(self, step: Step, error: BaseException | None) -> None:
        with self._changed:
            del self._running[step.name]
            if error is not None:
                self._failed[step.name] = error
                self.ending.set()
            self._changed.notify_all()

    def _wait(self) -> None:
        """Wait until no other thread runs a step or will; unlike `join`, right after an interrupt,
        which may have left a step of this thread among the running ones."""
        with self._changed:
            while any(map(_runs_away, self._running.values())) or (
                self._todo and not self.ending.is_set()
            ):
                self._changed.wait(_TURN_S)

    def _raise_first(self) -> None:
        failed = [self._failed[name] for name in self._order if name in self._failed]
        for error in failed:
            if not isinstance(error, Stopped):
                raise error


def _runs_away(step: Step) -> bool:
    return step.isolated or step.waits

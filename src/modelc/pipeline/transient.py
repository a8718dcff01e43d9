"""Removes the results that only steps of the plan read, as soon as all of these are done."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping

from modelc.pipeline.fingerprint import Fingerprint
from modelc.pipeline.plan import Plan
from modelc.pipeline.store import Store


class Transients:
    """The transient results of one execution.

    Attributes:
        removed: names of the steps whose results this execution has given up.
    """

    def __init__(
        self,
        names: Iterable[str],
        plan: Plan,
        prints: Mapping[str, Fingerprint],
        store: Store,
        pending: Collection[str],
    ) -> None:
        """Watch the results of the steps `names`; `pending` are the steps still to be done."""
        self.removed: set[str] = set()
        self._prints, self._store = prints, store
        self._lock = threading.Lock()
        self._readers = {
            name: {step.name for step in plan.steps if name in step.inputs} & set(pending)
            for name in names
        }
        self._give_up()  # what an execution that was killed has left

    def done(self, name: str) -> None:
        """Take note that a step's result is whole, and remove what only it still needed."""
        with self._lock:
            for readers in self._readers.values():
                readers.discard(name)
            self._give_up()

    def _give_up(self) -> None:
        for name in [name for name, readers in self._readers.items() if not readers]:
            del self._readers[name]
            self._store.release(self._prints[name].key)
            self.removed.add(name)

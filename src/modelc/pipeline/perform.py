"""Performs one step: uses its result from the store, or runs it and commits what it made."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from modelc.errors import Damaged, ModelcError, Where
from modelc.files import describe_folder, space_needed
from modelc.pipeline.events import (
    Events,
    StepLog,
    StepProgress,
    StepResult,
    StepWaiting,
    Warned,
)
from modelc.pipeline.fingerprint import Fingerprint
from modelc.pipeline.isolated import run_isolated
from modelc.pipeline.memory import PeakMemory
from modelc.pipeline.record import Record
from modelc.pipeline.schedule import Stopped
from modelc.pipeline.sources import Sources, Stats
from modelc.pipeline.step import Step, StepContext, plain, resolve
from modelc.pipeline.store import SPACE_HINT, Entry, Store

WAIT_S = 0.5
"""After this long it is looked whether another process's result is still worth waiting for."""


@dataclass(frozen=True)
class Performance:
    """One step in one execution.

    Attributes:
        stats: of each source when it was hashed.
        inputs: step name -> folder with its result, of those that are there.
        ending: set when it is not worth waiting for others any more.
    """

    step: Step
    fingerprint: Fingerprint
    store: Store
    sources: Sources
    stats: Mapping[str, Stats]
    inputs: Mapping[str, Path]
    events: Events
    ending: threading.Event

    def result(self, *, check_contents: bool) -> StepResult:
        """Return the step's result, run now if the store hasn't it whole."""
        start, key = time.perf_counter(), self.fingerprint.key
        with self._locked(key):
            cached = self._find(key, check_contents)
            entry = cached or self._run(key)
            self.store.touch(key)
        return StepResult(
            name=self.step.name,
            status="cached" if cached else "ran",
            seconds=time.perf_counter() - start,
            peak_mb=0.0 if cached else entry.record.peak_mb,
            fingerprint=self.fingerprint,
            entry=entry,
        )

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        lock = self.store.lock(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.events(StepWaiting(self.step.name))
            while not lock.is_locked:
                if self.ending.is_set():
                    raise Stopped from None
                with suppress(Timeout):
                    lock.acquire(timeout=WAIT_S)
        try:
            yield
        finally:
            lock.release()

    def _find(self, key: str, check_contents: bool) -> Entry | None:
        try:
            return self.store.find(key, contents=check_contents)
        except Damaged as error:
            aside = self.store.set_aside(key)
            self.events(
                Warned(self.step.name, f"{error.message}; made again, the old one is in {aside}")
            )
            return None

    def _run(self, key: str) -> Entry:
        if missing := [name for name in self.step.inputs if name not in self.inputs]:
            raise Damaged(
                f"its result went while modelc ran, and so have its inputs: {', '.join(missing)}",
                where=Where(step=self.step.name),
                hint="run it again; they are made again",
            )
        with self.store.staging(key) as staged:
            start = time.perf_counter()
            context = self._context(key, staged)
            try:
                with space_needed(context.out, SPACE_HINT):
                    peak_mb = self._call(context, key)
                    self._check_sources()
                    record = Record(
                        key=key,
                        fingerprint=self.fingerprint,
                        files=describe_folder(context.out),
                        seconds=time.perf_counter() - start,
                        peak_mb=peak_mb,
                        isolated=self.step.isolated,
                        created=datetime.now(UTC).isoformat(timespec="seconds"),
                    )
                    return self.store.commit(staged, record)
            except ModelcError as error:
                error.where = error.where.at_step(self.step.name)
                raise
            except Exception as error:  # a defect: its traceback says what, this says where
                error.add_note(f"in step {self.step.name}")
                raise

    def _context(self, key: str, staged: Path) -> StepContext:
        name = self.step.name
        return StepContext(
            inputs=self.inputs,
            options=plain(self.step.options),
            sources={source: self.sources.paths[source] for source in self.step.reads},
            out=staged / "files",
            scratch=staged / "scratch",
            partial=self.store.partial(key),
            progress=lambda fraction, message: self.events(StepProgress(name, fraction, message)),
            log=lambda line: self.events(StepLog(name, line)),
        )

    def _call(self, context: StepContext, key: str) -> float:
        """Run the step's function and return its peak memory in MB."""
        if self.step.isolated:
            log = self.store.root / "logs" / f"{self.step.name}-{key[:12]}.log"
            return run_isolated(self.step, context, log)
        with PeakMemory("thread") as memory:
            resolve(self.step.run)(context)
        return memory.mb

    def _check_sources(self) -> None:
        for name in self.step.reads:
            if self.sources.stats(name) != self.stats[name]:
                raise ModelcError(
                    f"{name} changed while it was read",
                    where=Where(path=str(self.sources.paths[name])),
                    hint="run it again when nothing writes to it",
                )

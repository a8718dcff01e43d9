"""What an execution tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelc.pipeline.fingerprint import Fingerprint
from modelc.pipeline.store import Entry

Status = Literal["ran", "cached", "not needed"]


@dataclass(frozen=True)
class StepResult:
    """How one step ended.

    Attributes:
        status: "ran" now; "cached": its result was in the store; "not needed": its result is
            transient, and all that read it had theirs.
        seconds: wall time spent on it in this run.
        peak_mb: peak resident memory in MB (2**20 bytes) while it ran, 0 if it didn't; of what,
            see `Record`.
        entry: its result in the store, None if it is not there or was removed as transient.
    """

    name: str
    status: Status
    seconds: float
    peak_mb: float
    fingerprint: Fingerprint
    entry: Entry | None

    @property
    def key(self) -> str:
        """Name of its result in the store."""
        return self.fingerprint.key

    @property
    def path(self) -> Path:
        """Folder with its result, to read only.

        Raises:
            ValueError: it is not in the store.
        """
        if self.entry is None:
            raise ValueError(f"the result of {self.name} is not kept")
        return self.entry.path


@dataclass(frozen=True)
class StepStarted:
    """A step begins: the index-th (from 1) of the `count` whose results are needed."""

    name: str
    index: int
    count: int


@dataclass(frozen=True)
class StepProgress:
    """A running step has done this fraction (0 to 1)."""

    name: str
    fraction: float
    message: str


@dataclass(frozen=True)
class StepLog:
    """A running step says something."""

    name: str
    line: str


@dataclass(frozen=True)
class StepWaiting:
    """Another process is making this very result; it will be used when done."""

    name: str


@dataclass(frozen=True)
class StepFinished:
    """A step ended well."""

    result: StepResult


@dataclass(frozen=True)
class StepFailed:
    """A step failed; nothing starts any more, and the `running` ones are waited for."""

    name: str
    message: str
    running: tuple[str, ...]


@dataclass(frozen=True)
class Warned:
    """Something was wrong and has been put right."""

    name: str
    message: str


Event = StepStarted | StepProgress | StepLog | StepWaiting | StepFinished | StepFailed | Warned
Events = Callable[[Event], None]
"""Called by one thread at a time, but not always by the same."""


def ignore(event: Event) -> None:
    """Watch nothing."""

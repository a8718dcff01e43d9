"""What an execution tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelc.pipeline.store import Entry

Status = Literal["ran", "cached"]


@dataclass(frozen=True)
class StepResult:
    """How one step ended.

    Attributes:
        status: "ran" now, or "cached": its result was in the store.
        seconds: wall time spent on it in this run.
        peak_mb: peak resident memory in MB (2**20 bytes) while it ran, 0 if cached: the child's
            own where `entry.record.isolated`, that of this whole process and its children
            otherwise.
        entry: its result in the store.
    """

    name: str
    status: Status
    seconds: float
    peak_mb: float
    entry: Entry

    @property
    def key(self) -> str:
        """Name of its result in the store."""
        return self.entry.record.key

    @property
    def path(self) -> Path:
        """Folder with its result, to read only."""
        return self.entry.path


@dataclass(frozen=True)
class StepStarted:
    """A step begins: the index-th (from 1) of `count`."""

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
class Warned:
    """Something was wrong and has been put right."""

    name: str
    message: str


Event = StepStarted | StepProgress | StepLog | StepWaiting | StepFinished | Warned
Events = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""

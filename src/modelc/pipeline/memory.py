"""Peak resident memory of a piece of work, its child processes included."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

INTERVAL_S: Final = 0.1
"""Between two looks, which take Python's lock from whoever works."""
MB: Final = 1 << 20

Scope = Literal["all", "thread"]


class PeakMemory:
    """Measures while it is entered; `mb` holds the peak afterwards (0 where it can't be told).

    Linux: resident pages, sampled; a page that two processes share counts twice. If this process's
    own high-water mark (VmHWM) rose meanwhile, that is exact and counts too. macOS: the process's
    peak so far, whatever the scope.

    Args:
        scope: "all": this process and all its descendants. "thread": this process, and of the
            children those that the entering thread starts; what other threads hold is in it.
    """

    mb: float = 0.0

    def __init__(self, scope: Scope = "all") -> None:
        self._scope = scope

    def __enter__(self) -> PeakMemory:
        _return_freed_memory()
        self._thread = threading.get_native_id()
        self._sampled = 0
        self._mark = high_water_bytes()
        _SAMPLER.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _SAMPLER.remove(self)
        self.see(Resident.now())
        mark = high_water_bytes()
        exact = mark if mark > self._mark or not self._sampled else 0
        self.mb = max(self._sampled, exact) / MB

    def see(self, now: Resident) -> None:
        """Take in how much is resident now."""
        mine = now.children.get(self._thread, 0)
        children = sum(now.children.values()) if self._scope == "all" else mine
        self._sampled = max(self._sampled, now.own + children)


@dataclass(frozen=True)
class Resident:
    """Bytes resident at one moment.

    Attributes:
        own: in this process.
        children: by the thread that started them, in child processes and all their descendants.
    """

    own: int
    children: Mapping[int, int]

    @classmethod
    def now(cls) -> Resident:
        """Look; what can't be told counts as 0."""
        started = {int(thread): children for thread, children in _children("self").items()}
        return cls(_own("self"), {t: sum(map(_resident, c)) for t, c in started.items()})


class _Sampler:
    """One thread that looks for all measurements there are, and ends with the last."""

    def __init__(self) -> None:
        self._measuring: list[PeakMemory] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def add(self, measured: PeakMemory) -> None:
        with self._lock:
            self._measuring.append(measured)
            if len(self._measuring) == 1:
                self._ended = threading.Event()
                threading.Thread(target=self._sample, args=(self._ended,), daemon=True).start()

    def remove(self, measured: PeakMemory) -> None:
        with self._lock:
            self._measuring.remove(measured)
            if not self._measuring:
                self._ended.set()

    def _sample(self, ended: threading.Event) -> None:
        while True:
            now = Resident.now()
            with self._lock:
                for measured in self._measuring:
                    measured.see(now)
            if ended.wait(INTERVAL_S):
                return


_SAMPLER: Final = _Sampler()


def _resident(process: str) -> int:
    """Bytes resident in a process and its descendants; what has ended meanwhile counts as 0."""
    below = (child for children in _children(process).values() for child in children)
    return _own(process) + sum(map(_resident, below))


def _own(process: str) -> int:
    try:
        return int(_read(f"/proc/{process}/statm").split()[1]) * _page_bytes()
    except (OSError, IndexError):
        return 0


def _children(process: str) -> dict[str, list[str]]:
    """Ids of the children of a process, by the thread that started them, where it started some."""
    home, found = f"/proc/{process}", dict[str, list[str]]()
    with suppress(OSError):
        for thread in os.listdir(f"{home}/task"):  # noqa: PTH208 - paths cost more than reading
            if children := _read(f"{home}/task/{thread}/children").decode().split():
                found[thread] = children
    if found:
        command = _command(process)
        # Between fork and exec a child shows its parent's memory as its own.
        found = {t: [c for c in row if _command(c) != command] for t, row in found.items()}
    return found


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as above
        return file.read()


def _command(process: str) -> bytes:
    try:
        return _read(f"/proc/{process}/cmdline")
    except OSError:
        return b""


def _return_freed_memory() -> None:
    """Give the system what earlier work has freed, so that it doesn't count (glibc)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _page_bytes() -> int:
    import resource

    return resource.getpagesize()


def high_water_bytes() -> int:
    """Most bytes ever resident in this process, 0 where it can't be told."""
    try:
        # Not getrusage: a child's ru_maxrss starts at what its parent held when it was forked.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        return _getrusage_peak()


def _getrusage_peak() -> int:
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS

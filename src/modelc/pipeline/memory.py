"""Peak resident memory of a piece of work, its child processes included."""

from __future__ import annotations

import ctypes
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal

INTERVAL_S = 0.02
MB = 1 << 20

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
        self._stop = threading.Event()
        self._thread = threading.get_native_id()
        self._sampled = 0
        self._mark = high_water_bytes()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._sampler.join()
        mark = high_water_bytes()
        exact = mark if mark > self._mark or not self._sampled else 0
        self.mb = max(self._sampled, exact) / MB

    def _sample(self) -> None:
        while True:
            self._sampled = max(self._sampled, self._now())
            if self._stop.wait(INTERVAL_S):
                return

    def _now(self) -> int:
        if self._scope == "all":
            return _resident("self")
        return _own("self") + sum(map(_resident, _children("self", self._thread)))


def _resident(process: str) -> int:
    """Bytes resident in a process and its descendants; what has ended meanwhile counts as 0."""
    return _own(process) + sum(_resident(child) for child in _children(process))


def _own(process: str) -> int:
    try:
        return int(Path("/proc", process, "statm").read_text().split()[1]) * _page_bytes()
    except (OSError, IndexError):
        return 0


def _children(process: str, thread: int | None = None) -> list[str]:
    """Ids of the children of a process, or of those that one of its threads started."""
    home, found = Path("/proc", process), list[str]()
    with suppress(OSError):
        tasks = home / "task"
        for task in tasks.iterdir() if thread is None else (tasks / str(thread),):
            found += (task / "children").read_text().split()
    if found:
        command = _command(process)
        # Between fork and exec a child shows its parent's memory as its own.
        found = [child for child in found if _command(child) != command]
    return found


def _command(process: str) -> bytes:
    try:
        return Path("/proc", process, "cmdline").read_bytes()
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

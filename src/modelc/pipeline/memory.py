"""Peak resident memory of a piece of work, its child processes included."""

from __future__ import annotations

import ctypes
import sys
import threading
from pathlib import Path
from types import TracebackType

INTERVAL_S = 0.02
MB = 1 << 20


class PeakMemory:
    """Measures while it is entered; `mb` holds the peak afterwards (0 where it can't be told).

    Linux: resident pages of this process and all its descendants, sampled; if the process's own
    high-water mark (VmHWM) rose meanwhile, that is exact and counts too. macOS: the process's peak
    so far.
    """

    mb: float = 0.0

    def __enter__(self) -> PeakMemory:
        _return_freed_memory()
        self._stop = threading.Event()
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
            self._sampled = max(self._sampled, _resident("self"))
            if self._stop.wait(INTERVAL_S):
                return


def _resident(process: str) -> int:
    """Bytes resident in a process and its descendants; what has ended meanwhile counts as 0."""
    total = 0
    try:
        home = Path("/proc", process)
        total = int((home / "statm").read_text().split()[1]) * _page_bytes()
        for thread in (home / "task").iterdir():
            for child in (thread / "children").read_text().split():
                total += _resident(child)
    except (OSError, IndexError):
        pass
    return total


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

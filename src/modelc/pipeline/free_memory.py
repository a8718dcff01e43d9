"""Memory that this process could get now, on the machine and in its control group."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LEAST: Final = 1 << 20
_GROUPS: Final = Path("/sys/fs/cgroup")
_OF_PROCESS: Final = Path("/proc/self/cgroup")
_OF_MACHINE: Final = Path("/proc/meminfo")
# Version of control groups -> limit, use, and the part of the use that is given back when needed.
_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def free_memory() -> int:
    """Bytes of memory that this process could get now: what the machine could give, or less where a
    control group, as of a container, has a limit. At least `LEAST`."""
    return max(LEAST, min([_machine(), *_groups()]))


def _machine() -> int:
    """Linux: what is available; Windows: what is free; elsewhere all that there is."""
    try:
        lines = _OF_MACHINE.read_text().splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        if sys.platform == "win32":
            return _windows()
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> Iterator[int]:
    """Yield what each control group that this process is in leaves, and each around it.

    Files and formats: the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    try:
        lines = _OF_PROCESS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or "memory" in controllers.split(","):
            version, root = (1, _GROUPS / "memory") if controllers else (2, _GROUPS)
            own = root / path.lstrip("/")
            # In a container the path may be the host's: then only the root is there.
            for folder in (own, *own.parents):
                if folder.is_relative_to(root):
                    yield from _left(folder, version)


def _left(folder: Path, version: int) -> Iterator[int]:
    limit, use, reclaimable = _FILES[version]
    try:
        most, used = ((folder / name).read_text().strip() for name in (limit, use))
        if most != "max":
            rows = (row.split() for row in (folder / "memory.stat").read_text().splitlines())
            given_back = next(int(value) for name, value in rows if name == reclaimable)
            yield int(most) - int(used) + given_back
    except (OSError, ValueError, StopIteration):
        return  # the root has no limit; a group of another controller has no such files


if sys.platform == "win32":

    class _MemoryStatus(ctypes.Structure):
        """MEMORYSTATUSEX of Windows' sysinfoapi.h."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("free", ctypes.c_uint64),
            ("others", ctypes.c_uint64 * 5),
        )

    def _windows() -> int:
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise ctypes.WinError()
        return int(status.free)

"""Huge pages under the weights (Linux; elsewhere nothing happens)."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

COLLAPSE: Final = 25  # MADV_COLLAPSE, Linux 6.1: gather pages now, not when the kernel comes by
HUGE_PAGE: Final = 2 << 20
PIECE: Final = 16 * HUGE_PAGE  # gathered between two looks at the clock
LEAST: Final = 2 * HUGE_PAGE  # smaller mappings are not worth a call


def gather_huge_pages(seconds: float) -> int:
    """Ask the kernel to put this process's large anonymous mappings on huge pages, the largest
    first, for about so many seconds; return how many bytes it did.

    ONNX Runtime keeps its weights in malloc's memory, on pages of 4 KiB unless the system says
    otherwise; a decoding step reads all of them, and loses several per cent to address translation.
    It is advice: where the kernel refuses, everything stays as it was.
    """
    if sys.platform != "linux":
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    end, gathered = time.monotonic() + seconds, 0
    for first, last in sorted(_anonymous(), key=lambda span: span[0] - span[1]):
        for start in range(first, last, PIECE):
            if time.monotonic() > end:
                return gathered
            size = min(PIECE, last - start)
            if madvise(start, size, COLLAPSE) == 0:
                gathered += size
    return gathered


def _anonymous() -> Iterator[tuple[int, int]]:
    """Yield the whole huge pages inside each large writable mapping without a file."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        span, access, *_, inode = line.split()[:5]
        if inode != "0" or not access.startswith("rw-p"):
            continue
        start, stop = (int(part, 16) for part in span.split("-"))
        first, last = -(-start // HUGE_PAGE) * HUGE_PAGE, stop // HUGE_PAGE * HUGE_PAGE
        if last - first >= LEAST:
            yield first, last

"""Gathering huge pages changes no byte, wherever it works."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from modelc.targets.cpu.huge_pages import HUGE_PAGE, gather_huge_pages


def test_nothing_changes() -> None:
    values = np.random.default_rng(0).integers(0, 256, 16 << 20, dtype=np.uint8)
    before = values.tobytes()
    gathered = gather_huge_pages(seconds=1.0)
    assert gathered % HUGE_PAGE == 0
    assert values.tobytes() == before


def test_no_time_no_work() -> None:
    assert gather_huge_pages(seconds=-1.0) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no such advice")
def test_pages_are_huge_afterwards() -> None:
    values = np.ones(32 << 20, np.uint8)
    if not gather_huge_pages(seconds=5.0):
        pytest.skip("the kernel doesn't gather")
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    huge = next(int(row.split()[1]) for row in rows if row.startswith("AnonHugePages:"))
    assert huge << 10 >= values.nbytes // 2

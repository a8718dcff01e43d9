"""Free memory of this machine, and of made-up ones."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelc.pipeline import free_memory as here
from modelc.pipeline.free_memory import LEAST, free_memory

GB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that could give 64 GB."""
    for name, file in (("_OF_MACHINE", "meminfo"), ("_OF_PROCESS", "cgroup"), ("_GROUPS", "fs")):
        monkeypatch.setattr(here, name, tmp_path / file)
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {64 << 20} kB\n")
    return tmp_path


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")


def test_some_memory_is_free() -> None:
    assert free_memory() > LEAST


def test_no_groups(machine: Path) -> None:
    assert free_memory() == 64 * GB


@pytest.mark.parametrize("path", ["/", "/kubepods/of/the/host"])
def test_a_container_has_less(machine: Path, path: str) -> None:
    """What files in memory take is given back when it is needed."""
    (machine / "cgroup").write_text(f"0::{path}\n")
    stat = f"anon 5\ninactive_file {GB}\nfile {9 * GB}"
    group(machine / "fs", memory_max=8 * GB, memory_current=3 * GB, memory_stat=stat)
    assert free_memory() == 6 * GB


def test_the_smallest_group_counts(machine: Path) -> None:
    (machine / "cgroup").write_text("1:name=systemd:/\n0::/user/one\n")
    stat = "inactive_file 0"
    group(machine / "fs/user", memory_max=4 * GB, memory_current=GB, memory_stat=stat)
    group(machine / "fs/user/one", memory_max="max", memory_current=GB, memory_stat=stat)
    assert free_memory() == 3 * GB
    group(machine / "fs/user/one", memory_max=GB, memory_current=GB)
    assert free_memory() == LEAST


def test_the_first_version_of_groups(machine: Path) -> None:
    (machine / "cgroup").write_text("5:cpu,memory:/docker/1\n0::/\n")
    files = {"limit_in_bytes": 2 * GB, "usage_in_bytes": GB, "stat": f"total_inactive_file {7}"}
    group(machine / "fs/memory", **{f"memory_{name}": text for name, text in files.items()})
    assert free_memory() == GB + 7


def test_windows(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no `os.sysconf`; its own call fills a structure of 64 bytes."""

    def status(reference: Any) -> int:
        assert reference._obj.length == ctypes.sizeof(reference._obj) == 64
        raw = (ctypes.c_uint64 * 8).from_buffer(reference._obj)
        raw[1], raw[2] = 32 * GB, 5 * GB
        return 1

    library = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=status))
    monkeypatch.setattr(ctypes, "windll", library, raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    spec = importlib.util.spec_from_file_location("on_windows", str(here.__file__))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("_OF_MACHINE", "_OF_PROCESS"):
        monkeypatch.setattr(module, name, machine / "absent")
    assert module.free_memory() == 5 * GB

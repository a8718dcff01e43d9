"""The files of uses, which other processes read: they go only while nobody does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from modelc.pipeline.usage import Usage


def is_held(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


@pytest.fixture
def removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Endings of files that went. They go under the lock of the store, and as on Windows, where
    a file that is open can't be removed."""
    gone: list[str] = []
    unlink = Path.unlink

    def checked(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "active" and path.suffix != ".part":
            assert is_held(tmp_path / "locks" / "prune.lock"), "another process may be reading it"
            if path.suffix == ".lock" and is_held(path):
                raise PermissionError(13, "it is open", str(path))
            gone.append(path.suffix)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", checked)
    for name in ("active", "locks"):
        (tmp_path / name).mkdir()
    return gone


def test_a_use_ends_under_the_lock(tmp_path: Path, removed: list[str]) -> None:
    usage, other = Usage(tmp_path), Usage(tmp_path)
    with usage.held():
        usage.claim(["a"])
        with other.pruning():
            assert other.users() == 1
        assert not removed
    assert removed == [".json", ".lock"]
    assert not list((tmp_path / "active").iterdir())


KILLED = """
import os, sys
from pathlib import Path
from modelc.pipeline.usage import Usage
usage = Usage(Path(sys.argv[1]))
with usage.held():
    usage.claim(["a"])
    os._exit(0)
"""


def test_what_a_killed_process_left(tmp_path: Path, removed: list[str]) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=True, timeout=60)
    assert len(list((tmp_path / "active").iterdir())) == 2
    usage, taken = Usage(tmp_path), list[str]()
    with usage.held():
        usage.claim(["a"])
        usage.release("a", taken.append)
    assert taken == ["a"], "the dead one's claim no longer counts"
    assert not list((tmp_path / "active").iterdir())

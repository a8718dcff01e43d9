"""Processes with several steps under way that are killed or interrupted, and two at once."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import is_alive, reply, wait_for

from modelc.pipeline.store import Store

HERE = Path(__file__).parent
TRANSIENT = {"made0", "made1", "made2"}
KEPT = {"start", "read0", "read1", "read2", "here", "end"}


def start(store: Store, *rest: str) -> subprocess.Popen[str]:
    argv = [sys.executable, str(HERE / "run_parts.py"), str(store.root.parent), *rest]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def in_store(store: Store) -> set[str]:
    found = (store.find(path.name) for path in (store.root / "entries").iterdir())
    return {entry.record.fingerprint.step for entry in found if entry}


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
def test_a_kill_at_any_moment_loses_only_what_was_under_way(
    store: Store, toys: Path, steps: int
) -> None:
    killed = start(store)
    wait_for(lambda: len(list(toys.iterdir())) >= steps)  # so many have begun
    time.sleep(random.Random(steps).uniform(0, 0.1))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    whole = in_store(store)
    before = {path.name: path.stat().st_size for path in toys.iterdir()}

    again = reply(start(store))
    assert in_store(store) == KEPT
    assert not list((store.root / "staging").iterdir())
    for name in (whole & KEPT) & before.keys():
        assert (toys / name).stat().st_size == before[name], f"{name} ran again"
    for part in range(3):
        if f"read{part}" in whole:
            assert again[f"made{part}"][0] == "not needed"
    keys = {name: key for name, (_, key, _) in again.items()}
    assert all(store.find(keys[name], contents=True) for name in KEPT)


def test_two_processes_share_what_is_transient(store: Store, toys: Path) -> None:
    one, other = (reply(process) for process in [start(store) for _ in range(2)])
    assert {name: key for name, (_, key, _) in one.items()} == {
        name: key for name, (_, key, _) in other.items()
    }
    assert {path.name: path.read_text() for path in toys.iterdir()} == dict.fromkeys(
        KEPT | TRANSIENT, "x"
    )
    assert in_store(store) == KEPT


def test_an_interrupt_stops_all_that_runs(store: Store, toys: Path) -> None:
    process = start(store, "hang")
    pids = [toys / "pid.child", toys / "pid.waits"]
    wait_for(lambda: all(pid.exists() and pid.read_text() for pid in pids))
    wait_for((toys / "on.here").exists)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    for pid in pids:
        number = int(pid.read_text())
        wait_for(lambda number=number: not is_alive(number))
    assert not list((store.root / "entries").iterdir())
    assert not list((store.root / "staging").iterdir())

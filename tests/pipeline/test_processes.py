"""Several processes on one store, and processes that are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.processes import is_alive, reply, wait_for

from modelc.pipeline.store import Store

HERE = Path(__file__).parent


def start(store: Store, source: Path, *rest: str) -> subprocess.Popen[str]:
    argv = [sys.executable, str(HERE / "run_toys.py"), str(store.root.parent), str(source), *rest]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


LONG = ("await_flag", '{"name": "long", "until": "go"}')
"""A step that lasts until the test says `go`."""


def test_two_processes_make_a_result_once(
    store: Store, source: Path, toys: Path, runs: Callable[[str], int]
) -> None:
    first = start(store, source, *LONG)
    wait_for(lambda: runs("long") == 1)
    second = start(store, source, *LONG)
    wait_for((toys / "waiting").exists)
    (toys / "go").touch()
    assert reply(first)["status"] == ["ran", "ran"]
    answer = reply(second)
    assert answer["status"] == ["cached", "cached"]
    assert "StepWaiting" in answer["events"]
    assert runs("long") == 1
    assert runs("read") == 1


@pytest.mark.parametrize("mode", ["here", "isolated"])
def test_after_a_kill_only_the_unfinished_step_runs(
    store: Store, source: Path, toys: Path, runs: Callable[[str], int], mode: str
) -> None:
    killed = start(store, source, "hang_once", "{}", mode)
    flag = toys / "hung"
    wait_for(lambda: flag.exists() and flag.read_text() != "")
    worker = int(flag.read_text())
    assert (worker == killed.pid) == (mode == "here")
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(list((store.root / "staging").iterdir())) == 1
    wait_for(lambda: not is_alive(worker))  # a child does not outlive its parent

    again = reply(start(store, source, "hang_once", "{}", mode))
    assert again["status"] == ["cached", "ran"]
    assert runs("read") == 1
    assert not list((store.root / "staging").iterdir())
    texts = [path.read_text() for path in (store.root / "entries").glob("*/files/text")]
    assert sorted(texts) == ["abc", "whole"]


@pytest.mark.parametrize("mode", ["here", "isolated"])
def test_a_killed_step_goes_on_from_its_last_part(
    store: Store, source: Path, toys: Path, runs: Callable[[str], int], mode: str
) -> None:
    killed = start(store, source, "in_parts", "{}", mode)
    wait_for((toys / "hung").exists)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait_for(lambda: not is_alive(int((toys / "hung").read_text())))
    assert reply(start(store, source, "upper", "{}"))["status"] == ["cached", "ran"]
    assert [len(list(path.iterdir())) for path in (store.root / "partial").iterdir()] == [2]

    again = reply(start(store, source, "in_parts", "{}", mode))
    assert again["status"] == ["cached", "ran"]
    assert [runs(name) for name in ("one", "two", "three")] == [1, 1, 1]
    texts = [path.read_text() for path in (store.root / "entries").glob("*/files/text")]
    assert "one two three" in texts
    assert not list((store.root / "partial").iterdir())


def test_what_a_killed_process_left_is_swept_by_another_compile(
    store: Store, source: Path, toys: Path
) -> None:
    killed = start(store, source, "hang_once", "{}")
    wait_for((toys / "hung").exists)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert reply(start(store, source, "upper", "{}"))["status"] == ["cached", "ran"]
    assert not list((store.root / "staging").iterdir())


def test_what_lives_is_not_swept(
    store: Store, source: Path, toys: Path, runs: Callable[[str], int]
) -> None:
    first = start(store, source, *LONG)
    wait_for(lambda: runs("long") == 1)
    assert reply(start(store, source, "upper", "{}"))["status"] == ["cached", "ran"]
    (toys / "go").touch()
    assert reply(first)["status"] == ["ran", "ran"]


def test_an_interrupt_stops_the_child_too(store: Store, source: Path, toys: Path) -> None:
    process = start(store, source, "hang_once", "{}", "isolated")
    flag = toys / "hung"
    wait_for(lambda: flag.exists() and flag.read_text() != "")
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    wait_for(lambda: not is_alive(int(flag.read_text())))
    assert not list((store.root / "staging").iterdir())

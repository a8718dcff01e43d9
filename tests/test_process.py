"""Workers: results come back, expected errors keep their kind, crashes and hangs become errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelc.errors import Missing, ToolFailed, Where
from modelc.process import Command, run_command, run_worker

WORKER = """
import os, signal, sys, time
from modelc.errors import Missing, Where
from modelc.process import serve

def handle(job):
    print("working on", job["what"])
    if job["what"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job["what"] == "hang":
        time.sleep(60)
    if job["what"] == "missing":
        raise Missing("no such device", where=Where(graph="token_ar1"), hint="plug it in")
    return {"twice": job["number"] * 2}

serve(handle)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "toy_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "toy_worker"


def call(worker: str, tmp_path: Path, what: str, timeout_s: float = 30) -> dict[str, object]:
    job = {"what": what, "number": 21}
    where = Where("compile", "ar128")
    return run_worker(
        worker, job, workdir=tmp_path, timeout_s=timeout_s, where=where, hint="try again"
    )


def test_result_and_log(worker: str, tmp_path: Path) -> None:
    assert call(worker, tmp_path, "sums") == {"twice": 42}
    assert "working on sums" in (tmp_path / "toy_worker.log").read_text()
    assert not list(tmp_path.glob("job-*"))


def test_expected_error_keeps_kind_place_and_hint(worker: str, tmp_path: Path) -> None:
    with pytest.raises(Missing) as caught:
        call(worker, tmp_path, "missing")
    assert caught.value.where == Where("compile", "token_ar1")
    assert caught.value.hint == "plug it in"


def test_crash_names_signal_step_and_last_words(worker: str, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="SIGSEGV") as caught:
        call(worker, tmp_path, "crash")
    assert caught.value.where == Where("compile", "ar128")
    assert caught.value.hint == "try again"


def test_hang_is_stopped(worker: str, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="was stopped after"):
        call(worker, tmp_path, "hang", timeout_s=1.5)


def test_program_that_is_not_there(tmp_path: Path) -> None:
    command = Command((str(tmp_path / "nothing"),), tmp_path, tmp_path / "log", 5)
    with pytest.raises(ToolFailed, match="could not be started"):
        run_command(command)


def test_command_environment_and_status(tmp_path: Path) -> None:
    script = "import os, sys; print(os.environ['COLOUR']); sys.exit(7)"
    command = Command(
        (sys.executable, "-c", script), tmp_path, tmp_path / "log", 30, {"COLOUR": "blue"}
    )
    finished = run_command(command)
    assert (finished.status, finished.timed_out) == (7, False)
    assert (tmp_path / "log").read_text() == "blue\n"

"""Workers: results come back, expected errors keep their kind, crashes and hangs become errors,
and no worker outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from modelc.errors import Missing, ToolFailed, Where
from modelc.process import (
    LOG_TAIL_BYTES,
    Command,
    Leash,
    LogMark,
    run_command,
    run_worker,
)

WORKER = """
import os, signal, sys, time
from modelc.errors import Missing, Where
from modelc.process import serve

def handle(job):
    print("working on", job["what"])
    if job["what"] == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job["what"] == "hang":
        with open("pid.part", "w") as file:
            file.write(str(os.getpid()))
        os.rename("pid.part", "pid")
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


def test_workdir_may_be_relative(
    worker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job, place = {"what": "sums", "number": 1}, Path("some/where")
    assert run_worker(worker, job, workdir=place, timeout_s=30, where=Where()) == {"twice": 2}
    assert (tmp_path / place / "toy_worker.log").exists()


def test_last_words_are_of_this_job(worker: str, tmp_path: Path) -> None:
    call(worker, tmp_path, "sums")
    with pytest.raises(ToolFailed) as caught:
        call(worker, tmp_path, "crash")
    assert "working on sums" not in caught.value.message
    log = (tmp_path / "toy_worker.log").read_text()
    assert "working on sums" in log


def test_last_words_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert LogMark(log).last_words() == "  | (nothing)"
    log.write_text("before\n")
    mark = LogMark(log)
    with log.open("a") as file:
        file.write("x" * 2 * LOG_TAIL_BYTES + "\nthe end\n")
    assert mark.last_words().endswith("x\n  | the end")
    assert len(mark.last_words()) < LOG_TAIL_BYTES + 100
    assert mark.text().startswith("xxx")


PARENT = """
from pathlib import Path
from modelc.errors import Where
from modelc.process import run_worker
job = {"what": "hang", "number": 1}
run_worker("toy_worker", job, workdir=Path.cwd(), timeout_s=60, where=Where())
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="asks /proc")
def test_a_worker_does_not_outlive_its_parent(worker: str, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline, "the worker did not start"
        time.sleep(0.01)
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while is_alive(pid):
        assert time.monotonic() < deadline, "the worker goes on alone"
        time.sleep(0.01)


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


def test_a_leash_ends_the_children_of_other_threads(tmp_path: Path) -> None:
    leash, outcomes = Leash(), list[object]()
    code = "import time; time.sleep(600)"
    sleep = Command((sys.executable, "-c", code), tmp_path, tmp_path / "log", 600)

    def work() -> None:
        with leash.held():
            for _ in range(2):  # the second starts when it is too late
                try:
                    outcomes.append(run_command(sleep))
                except KeyboardInterrupt as error:
                    outcomes.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    leash.end()
    thread.join(60)
    assert [type(outcome) for outcome in outcomes] == [KeyboardInterrupt] * 2
    free = run_command(Command((sys.executable, "-c", ""), tmp_path, tmp_path / "log", 600))
    assert free.status == 0

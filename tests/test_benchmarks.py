"""The benchmarks start: what they import and the options that they name are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = ("cpu_generate", "compile_cost", "startup", "snapdragon_tiny")


@pytest.mark.parametrize("name", SCRIPTS)
def test_says_what_it_takes(name: str) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_a_worker_answers_and_says_what_it_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))
    import worker

    script = tmp_path / "serve_sums.py"
    script.write_text(
        "from worker import serve\n"
        "serve({'add': lambda a, b: {'sum': a + b}, 'fail': lambda: 1 / 0})\n"
    )
    child = worker.Worker(str(script))
    try:
        assert child.ask("add", a=2, b=3) == {"sum": 5}
        with pytest.raises(RuntimeError, match="fail: ZeroDivisionError"):
            child.ask("fail")
    finally:
        child.close()
    with pytest.raises((RuntimeError, ValueError)):
        child.ask("add", a=2, b=3)

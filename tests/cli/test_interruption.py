"""A compile that is interrupted is taken up; two at once make each result once."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from support.commands import ENTRY, environment, modelc

from modelc.pipeline.compile import explain_source
from modelc.pipeline.make_recipe import make_recipe
from modelc.pipeline.store import Store


def statuses(document: dict) -> dict[str, str]:
    return {step["name"]: step["status"] for step in document["steps"]}


@pytest.fixture
def command(llama_gguf: Path, tmp_path: Path) -> list[str]:
    """A compile into a bundle of its own."""
    return ["compile", str(llama_gguf), "-t", "cpu", "-o", str(tmp_path / "bundle")]


def test_ctrl_c_and_again(command: list[str], llama_gguf: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    reasons = explain_source(llama_gguf, make_recipe(None, {"target": "cpu"}), store)
    key = next(reason.key for reason in reasons if reason.step == "lower")
    with store.lock(key):  # so the compile gets to `lower` and waits there
        child = subprocess.Popen(
            [*ENTRY, *command], env=environment(tmp_path), stderr=subprocess.PIPE, text=True
        )
        assert child.stderr
        hang = threading.Timer(120, child.kill)
        hang.start()
        for line in child.stderr:
            if "reference" in line:
                break
        child.send_signal(signal.SIGINT)
        last = child.stderr.read()
        code = child.wait()
        hang.cancel()
    assert code == 130
    assert "interrupted; what was finished is kept" in last
    assert not (tmp_path / "bundle").exists()

    again = statuses(modelc(*command, "--json", store=tmp_path).json())
    assert again == {
        "import": "cached", "canonical": "cached", "reference": "cached", "lower": "ran",
        "verify": "ran",
    }  # fmt: skip


def test_two_compiles_share_a_store(command: list[str], tmp_path: Path) -> None:
    both = [
        subprocess.Popen(
            [*ENTRY, *command, "--json"],
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    one, other = (statuses(json.loads(child.communicate(timeout=300)[0])) for child in both)
    assert {child.returncode for child in both} == {0}
    assert one.keys() == other.keys()
    for name in one:
        assert sorted((one[name], other[name])) == ["cached", "ran"], name

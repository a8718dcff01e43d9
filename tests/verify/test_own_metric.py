"""Metrics that users write: what is imported, and whose fault it is if that fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelc.errors import BadInput
from modelc.verify.own_metric import load_metrics

TEXT = """
def agreement(reference, measured, token_ids):
    return (reference.argmax(-1) == measured.argmax(-1)).mean()

def words(reference, measured, token_ids):
    return "many"

def fails(reference, measured, token_ids):
    raise RuntimeError("no data")
"""
ROWS = np.eye(4, dtype=np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(TEXT)
    return tmp_path / "own.py"


def test_a_function_of_a_file(path: Path) -> None:
    metrics = load_metrics([f"{path}:agreement"])
    assert metrics["agreement"](ROWS, ROWS[[0, 1, 2, 2]], np.arange(4)) == 0.75


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.py:agrement", "no function is called agrement"),
        ("own.py", "is not FILE.py:function"),
        ("other.py:agreement", "no such file"),
        ("broken.py:agreement", "the file fails: ZeroDivisionError"),
        ("own.txt:agreement", "not a Python file"),
    ],
)
def test_what_can_not_be_imported(name: str, message: str, path: Path) -> None:
    path.with_name("broken.py").write_text("1 / 0")
    path.with_name("own.txt").write_text(TEXT)
    with pytest.raises(BadInput, match=message) as raised:
        load_metrics(
            [str(path.with_name(name.partition(":")[0])) + "".join(name.partition(":")[1:])]
        )
    assert "agrement" not in name or "agreement" in raised.value.hint


def test_one_name_twice(path: Path) -> None:
    with pytest.raises(BadInput, match="two metrics are called agreement"):
        load_metrics([f"{path}:agreement", f"{path}:agreement"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("words", "returns str, no number"), ("fails", "the metric fails: RuntimeError: no data")],
)
def test_what_fails_when_it_is_called(name: str, message: str, path: Path) -> None:
    metric = load_metrics([f"{path}:{name}"])[name]
    with pytest.raises(BadInput, match=message):
        metric(ROWS, ROWS, np.arange(4))

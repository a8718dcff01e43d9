import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.pipeline.plan import Plan
from modelc.pipeline.step import Step
from modelc.pipeline.store import Store


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make `toy_steps` importable here and in children; the folder where it counts its runs."""
    here = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, inherited])))
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setenv("TOY_RUNS", str(runs))
    return runs


@pytest.fixture
def runs(toys: Path) -> Callable[[str], int]:
    """How often a toy step's body has run."""
    return lambda name: (toys / name).stat().st_size if (toys / name).exists() else 0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.txt"
    path.write_text("abc")
    return path


@pytest.fixture
def make_plan() -> Callable[..., Plan]:
    def make(*, target: str = "cpu", times: int = 1, isolated: bool = False) -> Plan:
        return Plan(
            target,
            (
                Step("read", "toy_steps:read", reads=("source",)),
                Step(
                    "upper",
                    "toy_steps:upper",
                    options={"times": times},
                    inputs=("read",),
                    isolated=isolated,
                ),
                Step("join", "toy_steps:join", inputs=("read", "upper")),
            ),
        )

    return make

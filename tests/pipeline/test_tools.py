from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import modelc
from modelc.pipeline import tools


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that passes for modelc's code."""
    (tmp_path / "cli").mkdir()
    (tmp_path / "ir").mkdir()
    for name in ("__init__.py", "cli/main.py", "ir/helper.py"):
        (tmp_path / name).write_text("pass")
    monkeypatch.setattr(modelc, "__file__", str(tmp_path / "__init__.py"))
    tools.own_version.cache_clear()
    yield tmp_path
    tools.own_version.cache_clear()


def test_versions_are_the_installed_ones_and_modelcs_own() -> None:
    versions = tools.tool_versions(("onnx", "numpy"))
    assert list(versions) == ["modelc", "numpy", "onnx"]
    assert versions["onnx"] == metadata.version("onnx")
    assert versions["modelc"].startswith(f"{modelc.__version__}+")


@pytest.mark.parametrize(("name", "counts"), [("ir/helper.py", True), ("cli/main.py", False)])
def test_a_changed_helper_is_another_version(code: Path, name: str, counts: bool) -> None:
    before = tools.own_version()
    (code / name).write_text("pass  # changed")
    tools.own_version.cache_clear()
    assert (tools.own_version() != before) == counts

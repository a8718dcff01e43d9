"""Where the vendor's libraries are looked for, and what is said if they are not there."""

from __future__ import annotations

import importlib.util

import pytest

from modelc.errors import Missing
from modelc.targets.snapdragon.library import library_path, toolchain


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for call in (toolchain, lambda: library_path("QnnHtp")):
        with pytest.raises(Missing, match="onnxruntime-qnn is not installed") as caught:
            call()
        assert "pip install onnxruntime-qnn" in caught.value.hint


def test_with_the_package() -> None:
    pytest.importorskip("onnxruntime_qnn", reason="the package is not here")
    assert all(library_path(name).is_file() for name in ("QnnHtp", "QnnSystem", "Genie"))
    assert toolchain().startswith("onnxruntime ")
    with pytest.raises(Missing, match=r"has no .*Nothing"):
        library_path("Nothing")

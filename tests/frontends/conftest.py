"""Models made once for all tests of the frontends."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from support import random_models
from support.write_gguf import write_gguf


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a model's identity to its Hugging Face folder (not to be changed)."""
    base = tmp_path_factory.mktemp("models")
    return cache(lambda identity: random_models.make(identity, base / identity))


@pytest.fixture(scope="session")
def gguf_of(
    folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """A function from a model's identity (and a format) to its GGUF file (not to be changed)."""
    base = tmp_path_factory.mktemp("gguf")

    @cache
    def make(identity: str, quant: str = "F32") -> Path:
        return write_gguf(folder_of(identity), base / f"{identity}-{quant}.gguf", quant)

    return make

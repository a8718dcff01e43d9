"""What is a source, and what the errors say of everything else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.errors import BadInput
from modelc.frontends import FRONTENDS, describe, detect, read_source, source_files


def test_every_row_is_called_by_its_name() -> None:
    assert list(FRONTENDS) == [row.name for row in FRONTENDS.values()] == ["gguf", "huggingface"]


@pytest.mark.parametrize("call", [detect, read_source, source_files, describe])
def test_missing_path(call: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file") as caught:
        call(tmp_path / "nothing.gguf")
    assert caught.value.where.path == str(tmp_path / "nothing.gguf")
    assert ".gguf" in caught.value.hint


def test_other_files(tmp_path: Path, folder_of: Callable[[str], Path]) -> None:
    other = tmp_path / "model.bin"
    other.write_bytes(b"PK\x03\x04")
    with pytest.raises(BadInput, match="not a GGUF file"):
        detect(other)
    with pytest.raises(BadInput, match=r"no config\.json"):
        detect(tmp_path)
    with pytest.raises(BadInput) as caught:
        detect(folder_of("llama") / "model.safetensors")
    assert str(folder_of("llama")) in caught.value.hint
    os.mkfifo(tmp_path / "pipe.gguf")  # opening it would wait forever
    with pytest.raises(BadInput, match="not a GGUF file"):
        detect(tmp_path / "pipe.gguf")


def test_errors_without_a_place_get_the_source(
    tmp_path: Path, gguf_of: Callable[..., Path]
) -> None:
    content = gguf_of("llama").read_bytes()
    path = tmp_path / "model.gguf"
    path.write_bytes(content.replace(b"blk.0.attn_norm.weight", b"blk.9.attn_norm.weight"))
    with pytest.raises(BadInput, match=r"no weight model\.layers\.0\.input_layernorm") as caught:
        read_source(path)
    assert caught.value.where.path == str(path)
    assert caught.value.where.module == "model.layers.0.input_layernorm"

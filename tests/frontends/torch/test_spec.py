"""What is taken for a PyTorch source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelc.errors import BadInput
from modelc.frontends.torch.spec import (
    ArchiveSpec,
    BuilderSpec,
    EncoderSpec,
    function_name,
    is_encoder,
    is_spec,
    parse_spec,
    spec_files,
)


def folder(path: Path, *architectures: str, weights: str = "model.safetensors") -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": list(architectures)}))
    (path / weights).write_bytes(b"")
    return path


def test_a_function_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "resnet.py"
    file.write_text("")
    spec = parse_spec(f"{file}:build")
    assert spec == BuilderSpec(file, "build")
    assert str(spec) == f"{file}:build"
    assert spec_files(spec) == (file,)
    assert is_spec("missing.py:build") and is_spec("x.pt2")
    assert not is_spec("model.onnx") and not is_spec("C:model.onnx")


def test_an_encoder(tmp_path: Path) -> None:
    path = folder(tmp_path / "bert", "BertModel")
    assert parse_spec(str(path)) == EncoderSpec(path)
    assert spec_files(EncoderSpec(path)) == (path / "config.json", path / "model.safetensors")


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_a_decoder_is_none(name: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "decoder", name)
    assert not is_encoder(path)
    with pytest.raises(BadInput, match=f"names no encoder: {name}"):
        parse_spec(str(path))


def test_weights_that_could_run_code_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "bert", "BertModel", weights="pytorch_model.bin")
    with pytest.raises(BadInput, match="not in safetensors") as caught:
        parse_spec(str(path))
    assert "can run code" in caught.value.hint


def test_an_exported_program(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    with pytest.raises(BadInput, match="no such file"):
        parse_spec(str(file))
    file.write_bytes(b"")
    assert parse_spec(str(file)) == ArchiveSpec(file)
    assert spec_files(ArchiveSpec(file)) == (file,)


def test_the_name_of_a_function() -> None:
    assert function_name("a/net.py:build") == "build"
    assert function_name("a/net.pt2") == function_name("a/folder") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("missing.py:build", "no such file"),
        ("here.py:build()", "is no name of a function"),
        ("here.py", "no PyTorch source"),
        (".", "has no config.json"),
    ],
)
def test_what_is_none(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.py").write_text("")
    with pytest.raises(BadInput, match=message) as caught:
        parse_spec(text)
    assert caught.value.hint

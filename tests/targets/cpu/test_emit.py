"""What is written for ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.blocks import stored_as
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import Rope
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.targets.cpu.emit import emit_cpu

SIZES = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "rope": Rope(dim=64)}


def emit(folder: Path, gguf: str) -> dict[str, bytes]:
    folder.mkdir()
    formats = {"": "Q4_K", "v_proj": "Q6_K", "down_proj": "Q8_0"}
    source = tiny_source(tiny_config(layers=1, **SIZES))
    source = stored_as(source, formats, folder.parent / "weights.bin")
    passes = build_pipeline("cpu", {"weights": "gguf", "gguf": gguf})
    emit_cpu(run_passes(build_decoder(source, 16), passes, graph="test")[0], folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("gguf", ["exact", "fast"])
def test_same_source_same_bytes(gguf: str, tmp_path: Path) -> None:
    assert emit(tmp_path / "one", gguf) == emit(tmp_path / "two", gguf)


def test_exact_rounds_nothing(tmp_path: Path) -> None:
    assert emit(tmp_path / "out", "exact").keys() == {"model.onnx", "model.onnx.data"}


def test_what_fast_rounds_is_said(tmp_path: Path) -> None:
    said = json.loads(emit(tmp_path / "out", "fast")["requantised.json"])
    assert "model.layers.0.mlp.down_proj.weight" not in said  # Q8_0 is fast as it is
    assert "model.embed_tokens.weight" not in said  # looked up, never multiplied
    assert set(said) == {
        "lm_head.weight",
        "model.layers.0.mlp.gate_proj+up_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj+k_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
    }
    row = said["model.layers.0.self_attn.v_proj.weight"]
    assert (row["from"], row["bits"], row["block_size"]) == ("Q6_K", 8, 128)
    assert 0 < row["relative_error"] < 0.02

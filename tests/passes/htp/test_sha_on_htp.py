"""What one branch per head is for: nothing spills; and HTP computes what the graph says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from support.htp_graphs import boundary, encodings, generate, lower, make_source, session
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import Rope
from modelc.decoder.parts import DecoderPart
from modelc.ir.encodings import Encoding, from_range, symmetric
from modelc.ir.provenance import canonical_name
from modelc.ir.write import write_model
from modelc.passes.base import run_passes
from modelc.passes.htp.mha_to_sha import MhaToSha
from modelc.passes.htp.quantise import Quantise
from modelc.passes.htp.split import split_decoder
from modelc.passes.pipelines import build_pipeline
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.compile import Compiled, CompileOptions, compile_graphs
from modelc.targets.snapdragon.simulate import run_graph
from modelc.verify.metrics import sqnr_db

pytest.importorskip("onnxruntime_qnn", reason="HTP's compiler is not here")
pytestmark = pytest.mark.simulator

NAME = "prompt_ar4_cl24_1_of_1"
# One key head for all, norms of heads, biases: what the branches have of their own.
VARIANTS: dict[str, dict[str, Any]] = {
    "one key head": {"kv_heads": 1},
    "qwen2": {"architecture": "qwen2", "biases": True},
    "qwen3": {"architecture": "qwen3"},
}


def compiled(model: Path, folder: Path) -> Compiled:
    return compile_graphs(
        {model.stem: model},
        find_chipset("snapdragon-8-elite"),
        CompileOptions(),
        folder / "htp" / f"{model.stem}.bin",
        workdir=folder / "work",
        timeout_s=120,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_htp_computes_what_the_graph_says(variant: str, tmp_path: Path) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "rope": Rope(dim=32)}
    source = make_source(tmp_path, **{**sizes, "attention_scale": 32**-0.5, **VARIANTS[variant]})
    model = MhaToSha().apply(lower(source, "ScaleQueries"))
    model = Quantise(encodings(source)).apply(model)
    path, edge, calls = tmp_path / f"{NAME}.onnx", boundary(model), []
    run = session(model, path)

    def recorded(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        calls.append((dict(feeds), run(feeds)))
        return calls[-1][1]

    generate(source, {4: recorded}, edge)
    wrapper = compiled(path, tmp_path).wrappers[NAME]
    found = run_graph(wrapper, [feeds for feeds, _ in calls], workdir=tmp_path, timeout_s=120)
    for name, floor in (("logits", 40), ("past_key_0_out", 40), ("past_value_0_out", 40)):
        codes = [(made[name], got[name]) for (_, made), got in zip(calls, found, strict=True)]
        on_cpu, on_htp = np.swapaxes(edge.dequantise(name, np.array(codes)), 0, 1)
        assert sqnr_db(on_cpu, on_htp) > floor, name


def test_no_scores_spill(tmp_path: Path) -> None:
    """Half the heads of Llama 3.2 1B over 4096 positions, in a layer that is narrow otherwise."""
    attention = {"heads": 16, "kv_heads": 4, "head_dim": 64, "rope": Rope(dim=64)}
    sizes = {"hidden_size": 128, "intermediate_size": 128, "layers": 1, "max_context": 4096}
    source = tiny_source(tiny_config(**attention, **sizes), tmp_path / "weights.bin")
    write_weights(source)
    passes = build_pipeline("htp-float", {"ar": 128, "context_length": 4096})
    whole, _ = run_passes(build_decoder(source, 4096), passes, graph="whole")
    parts = [DecoderPart(0, 0, embedding=True), DecoderPart(0, 1), DecoderPart(1, 1, head=True)]
    spilled = {}
    for name in ("grouped", "sha"):
        _, layer, _ = split_decoder(whole, parts)
        layer = MhaToSha().apply(layer) if name == "sha" else layer
        layer = Quantise(some_encodings(layer)).apply(layer)
        write_model(layer, tmp_path / f"{name}.onnx")
        (graph,) = compiled(tmp_path / f"{name}.onnx", tmp_path).info.graphs
        spilled[name] = graph.spill_fill_bytes
    assert spilled["sha"] == 0
    assert spilled["grouped"] > 10_000_000


def some_encodings(model: ir.Model) -> dict[str, Encoding]:
    """Encodings that were not gathered, for what depends on types and shapes alone."""
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    names = {canonical_name(value) for value in values}
    return {
        name: symmetric(8, "uint8") if name.startswith("present.") else from_range(-8, 8, "uint16")
        for name in names
    }

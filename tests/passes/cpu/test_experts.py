"""Experts in the CPU's graphs: coded as the scheme says, routers never; any number of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from support.lowered import Lowered
from support.random_models import CONTEXT, VOCAB, make
from support.write_gguf import write_gguf

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderModel
from modelc.frontends import read_model
from modelc.ir.provenance import module_of
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.reference.stream import StreamedReference
from modelc.verify.metrics import sqnr_db

TOKENS = np.random.default_rng(0).integers(0, VOCAB, 40)
FLOAT = {"activations": "float"}
SIMULATED = [
    ({"weights": "kinds", "kinds": {"": "w4_b32"}, **FLOAT}, {"weights": {"": "w4_b32"}, **FLOAT}),
    (
        {"weights": "kinds", "kinds": {"": "e4m3"}, "activations": "e4m3_dynamic"},
        {"weights": {"": "e4m3"}, "activations": "e4m3_dynamic"},
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("qwen2_moe", tmp_path_factory.mktemp("model"))


def lowered(model: DecoderModel, pipeline: str, options: dict[str, Any]) -> ir.Model:
    passes = build_pipeline(pipeline, options)
    return run_passes(build_decoder(model, CONTEXT), passes, graph="test")[0]


@pytest.mark.parametrize(("options", "simulated"), SIMULATED)
def test_codes_are_those_of_the_simulation(
    options: dict[str, Any], simulated: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    model = read_model(folder)
    simulated["weights"]["model.embed_tokens"] = ""
    wanted = StreamedReference(lowered(model, "simulated", simulated)).logits(TOKENS.tolist())
    graph = Lowered(lowered(model, "cpu", options), tmp_path)
    found = np.concatenate([graph.step(part) for part in np.split(TOKENS, [30, 39])])
    assert sqnr_db(wanted, found) > 100


@pytest.mark.parametrize("quant", ["Q8_0", "Q4_1", "Q4_0"])
def test_blocks_of_a_gguf_are_kept(quant: str, folder: Path, tmp_path: Path) -> None:
    model = read_model(write_gguf(folder, tmp_path / "model.gguf", quant))
    wanted = StreamedReference(build_decoder(model, CONTEXT)).logits(TOKENS.tolist())
    graph = Lowered(lowered(model, "cpu", {"weights": "gguf", **FLOAT}), tmp_path)
    assert sqnr_db(wanted, graph.step(TOKENS.tolist())) > 90


@pytest.mark.parametrize("weights", ["q8_0", "q4_0", "gguf"])
def test_routers_stay_floats(weights: str, folder: Path, tmp_path: Path) -> None:
    path = write_gguf(folder, tmp_path / "model.gguf", "Q8_0")
    coded: dict[str, bool] = {}
    for node in lowered(read_model(path), "cpu", {"weights": weights}).graph:
        if node.op_type in ("MatMul", "MatMulNBits"):
            coded |= dict.fromkeys(module_of(node).split("+"), node.op_type == "MatMulNBits")
    routers = {name for name in coded if name.endswith((".mlp.gate", ".shared_expert_gate"))}
    assert len(routers) == 4
    assert {name for name, is_coded in coded.items() if not is_coded} == routers


def test_no_rows_are_asked_for(folder: Path, tmp_path: Path) -> None:
    graph = Lowered(lowered(read_model(folder), "cpu", {"weights": "q8_0"}), tmp_path)
    assert graph.step(TOKENS[:5].tolist(), rows=[]).shape == (0, VOCAB)
    assert graph.step(TOKENS[5:6].tolist(), rows=[0]).shape == (1, VOCAB)

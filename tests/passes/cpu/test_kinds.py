"""Kinds of weights on the CPU: the graph's logits are those of the dequantised weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.lowered import Lowered
from support.matrices import store_coded
from support.tiny_source import tiny_config, tiny_source, write_weights
from support.whole_reference import WholeReference

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource, Rope
from modelc.errors import ModelcError
from modelc.ir.packing.kinds import KINDS
from modelc.ir.packing.matrix import PackedMatrix, PackedTensor
from modelc.ir.packing.weight import PackedWeight, unpack
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.targets.cpu.emit import emit_cpu

TOKENS = [3, 17, 39, 0, 5, 5, 21, 8, 30, 11, 2, 36]
# 48 inputs of down_proj are no whole number of most blocks.
SIZES = {"head_dim": 16, "rope": Rope(dim=16)}


def make_source(folder: Path, **changes: object) -> DecoderSource:
    source = tiny_source(tiny_config(**{**SIZES, **changes}), folder / "weights.bin", biases=True)
    write_weights(source)
    return source


def lower(source: DecoderSource, kinds: dict[str, str], activations: str = "float") -> ir.Model:
    settings = {"weights": "kinds", "kinds": kinds, "activations": activations}
    passes = build_pipeline("cpu", settings)
    return run_passes(build_decoder(source, context_length=32), passes, graph="test")[0]


def simulated(
    source: DecoderSource, kinds: dict[str, str], activations: str = "float"
) -> np.ndarray:
    """Logits of the float graph with dequantised weights."""
    named = {"model.layers": kinds[""], "lm_head": kinds.get("lm_head", kinds[""]), **kinds}
    del named[""]
    passes = build_pipeline("simulated", {"weights": named, "activations": activations})
    model, _ = run_passes(build_decoder(source, 32), passes, graph="test")
    return WholeReference(model).step(np.array([TOKENS]))[0]


def sqnr_db(found: np.ndarray, expected: np.ndarray) -> float:
    noise = np.square(found - expected, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(expected, dtype=np.float64).sum() / max(noise, 1e-30)))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_logits_of_every_kind(kind: str, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    found = Lowered(lower(source, {"": kind}), tmp_path, int8=True).step(TOKENS)
    assert sqnr_db(found, simulated(source, {"": kind})) > 90


@pytest.mark.parametrize("kind", ["w8", "w4", "w4_b32", "u4_b64", "u2_b32"])
def test_int8_activations_are_asked_for(kind: str, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    model = lower(source, {"": kind}, "int8_dynamic")
    nodes = [node for node in model.graph if node.op_type == "MatMulNBits"]
    assert {node.attributes["accuracy_level"].as_int() for node in nodes} == {4}
    assert not any(node.op_type == "MatMul" for node in model.graph)
    found = Lowered(model, tmp_path, int8=True).step(TOKENS)
    assert 20 < sqnr_db(found, simulated(source, {"": kind})) < 60


def test_float8_activations_of_each_token(tmp_path: Path) -> None:
    """Rounded as in the simulation; but a last bit of a sum may become a step of e4m3."""
    source, kinds = make_source(tmp_path), {"": "e4m3"}
    found = Lowered(lower(source, kinds, "e4m3_dynamic"), tmp_path).step(TOKENS)
    close = sqnr_db(found, simulated(source, kinds, "e4m3_dynamic"))
    assert close > sqnr_db(found, simulated(source, kinds)) + 10


def test_each_module_has_its_own_kind(tmp_path: Path) -> None:
    """Only layers of one kind are merged."""
    source = make_source(tmp_path)
    kinds = {
        "": "w4_b32",
        "lm_head": "w8",
        "model.layers.0.self_attn.k_proj": "u4_b32",
        "model.layers.1.mlp.up_proj": "mxfp4",
    }
    model = lower(source, kinds)
    names = set(model.graph.initializers)
    assert {"model.layers.0.self_attn.q_proj+v_proj.weight.codes"} <= names
    assert {"model.layers.1.self_attn.q_proj+k_proj+v_proj.weight.codes"} <= names
    assert {"model.layers.0.self_attn.k_proj.weight.zero_points"} <= names
    assert {"model.layers.1.mlp.up_proj.weight.elements"} <= names
    found = Lowered(model, tmp_path, int8=True).step(TOKENS)
    assert sqnr_db(found, simulated(source, kinds)) > 90


def test_a_kind_for_each_module_must_be_said(tmp_path: Path) -> None:
    with pytest.raises(ModelcError, match="nothing says how its weight is stored"):
        lower(make_source(tmp_path), {"lm_head": "w8"})


@pytest.mark.parametrize(("have", "want", "kept"), [("w4", "w4_b32", True), ("w4", "u3", False)])
def test_codes_of_the_source(have: str, want: str, kept: bool, tmp_path: Path) -> None:
    """Kept to the bit where the kind can have them, and else said to be rounded."""
    source, name = make_source(tmp_path), "model.layers.0.mlp.down_proj.weight"
    coded = store_coded(tmp_path / "coded", source.weights[name].decode(), KINDS[have])
    source = replace(source, weights={**source.weights, name: coded})
    (tmp_path / "out").mkdir()
    model = lower(source, {"": want})
    emit_cpu(model, tmp_path / "out")
    said = tmp_path / "out" / "requantised.json"
    assert said.exists() != kept
    if not kept:
        assert '"from": "int4 per channel"' in said.read_text()
    found = Lowered(model, tmp_path, int8=True).step(TOKENS)
    assert sqnr_db(found, simulated(source, {"": want})) > 90


@pytest.mark.parametrize(("have", "want"), [("w4_b32", "q8_0"), ("w4", "q4_0")])
def test_codes_under_the_names_of_ggmls_blocks(have: str, want: str, tmp_path: Path) -> None:
    """They aren't blocks, but their numbers are kept."""
    sizes = {"hidden_size": 64, "intermediate_size": 64}  # whole blocks
    source = make_source(tmp_path, **sizes)
    weights = {
        name: store_coded(tmp_path / name, matrix.decode(), KINDS[have])
        if name.endswith("q_proj.weight")
        else matrix
        for name, matrix in source.weights.items()
    }
    source = replace(source, weights=weights)
    passes = build_pipeline("cpu", {"weights": want, "activations": "float"})
    model, _ = run_passes(build_decoder(source, context_length=32), passes, graph="test")
    name = "model.layers.0.self_attn.q_proj.weight"
    packed = model.graph.initializers[f"{name}.codes"].const_value
    assert isinstance(packed, PackedTensor) and packed.matrix.rounded() == ""
    np.testing.assert_array_equal(unpacked(packed.matrix), weights[name].decode())


def unpacked(matrix: PackedMatrix) -> np.ndarray:
    layout, codes = matrix.packing.layout, matrix.codes("c").numpy()
    packed = PackedWeight(layout.bits, layout.block_size, codes, matrix.scales("s").numpy())
    return unpack(packed)


def test_tables_stay_as_they_are(tmp_path: Path) -> None:
    """Also one that is the head's as well, which gets its kind."""
    source = make_source(tmp_path, tied_head=True)
    model = lower(source, {"": "w4_b32"})
    found = Lowered(model, tmp_path, int8=True).step(TOKENS)
    assert sqnr_db(found, simulated(source, {"": "w4_b32"})) > 90
    assert "model.embed_tokens.weight" in model.graph.initializers


@pytest.mark.parametrize(
    ("kind", "bits"), [("e4m3_b128", 8), ("mxfp4", 4), ("w4_b32", 4), ("w2_b16", 2)]
)
def test_files_are_small(kind: str, bits: int, tmp_path: Path) -> None:
    source = tiny_source(
        tiny_config(hidden_size=256, intermediate_size=512, **SIZES), tmp_path / "w"
    )
    write_weights(source)
    (tmp_path / "out").mkdir()
    emit_cpu(lower(source, {"": kind}), tmp_path / "out")
    written = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    matrices = {n: m for n, m in source.weights.items() if len(m.shape) == 2}
    count = sum(np.prod(matrix.shape) for matrix in matrices.values())
    table = 4 * np.prod(matrices["model.embed_tokens.weight"].shape)
    form = KINDS[kind]
    assert form.bits == bits
    scales = 4 * count / (form.block if kind != "e4m3_b128" else 128)
    assert written < 1.1 * (count * bits / 8 + scales + table) + 60_000

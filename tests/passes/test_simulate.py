"""Simulate: golden pair, the codes of HTP's graphs, weights of every kind, dynamic activations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from support.golden import check_golden
from support.htp_graphs import (
    CONTEXT,
    TOKENS,
    VARIANTS,
    boundary,
    encodings,
    generate,
    lower,
    make_source,
    reference,
    session,
)

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource, Rope
from modelc.errors import ModelcError
from modelc.frontends.huggingface.safetensors import read_header
from modelc.ir.coded import StoredArray
from modelc.ir.coded_file import place_written, write_weights
from modelc.ir.encodings import Encoding
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.stored import StoredMatrix
from modelc.ir.text import to_text
from modelc.ir.weights import StoredWeight
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.reference.stream import StreamedReference
from modelc.verify.metrics import sqnr_db

GOLDEN = Path(__file__).parent / "golden"
EIGHT_BITS = {"model": "w8", "lm_head": "w8", "model.embed_tokens": "w16"}
TYPES = {"U8": "uint8", "F32": "float32"}
Q_PROJ = "model.layers.0.self_attn.q_proj"


def simulate(source: DecoderSource, **settings: Any) -> ir.Model:
    passes = build_pipeline("simulated", settings)
    return run_passes(build_decoder(source, CONTEXT), passes, graph="simulated")[0]


def logits(model: ir.Model, **options: int) -> np.ndarray:
    return StreamedReference(model, **options).logits(TOKENS)


def made(model: ir.Model) -> dict[str, np.ndarray]:
    """Return every tensor that the nodes make of TOKENS."""
    found: dict[str, np.ndarray] = {}
    StreamedReference(model).observe([TOKENS], found.__setitem__)
    return found


def weight(model: ir.Model, module: str) -> np.ndarray:
    return model.graph.initializers[f"{module}.weight"].const_value.numpy()


def test_golden_pair(tmp_path: Path) -> None:
    """Without the encodings' numbers."""
    source = make_source(tmp_path, layers=1, rope=Rope(dim=4))
    (expand,) = build_pipeline("expanded", {})
    model, _ = run_passes(build_decoder(source, CONTEXT), [expand], graph="expanded")
    names = [value.name for node in model.graph for value in node.outputs]
    known = {
        name: Encoding(0.02, 128, "uint8") if "present" in name else Encoding(1e-3, 1, "uint16")
        for name in names
    }
    check_golden(GOLDEN / "simulate.before.txt", to_text(model))
    _, simulate = build_pipeline("simulated", {"encodings": known, "weights": EIGHT_BITS})
    model, _ = run_passes(model, [simulate], graph="simulated")
    lines = to_text(model).splitlines()
    kept = [line for line in lines if "quantisation." not in line.split(" = ")[0]]
    check_golden(GOLDEN / "simulate.after.txt", "\n".join(kept) + "\n")


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers_of_htp_graphs(variant: str, tmp_path: Path) -> None:
    """HTP's graphs have codes for weights, other shapes, and caches in and out; the numbers are
    the same but where float32 arithmetic in another order rounds to another code."""
    source = make_source(tmp_path, **VARIANTS[variant])
    known = encodings(source)
    models = {ar: lower(source, "Quantise", ar, encodings=known) for ar in (4, 1)}
    graphs = {ar: session(model, tmp_path / f"{ar}.onnx") for ar, model in models.items()}
    expected = generate(source, graphs, boundary(models[4]))
    found = logits(simulate(source, encodings=known, weights=EIGHT_BITS))
    assert sqnr_db(expected, found) > 50
    assert sqnr_db(reference(source), found) < sqnr_db(expected, found) - 10


def test_tensors_are_what_their_codes_stand_for(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    known = encodings(source)
    found = made(simulate(source, encodings=known, weights=EIGHT_BITS))
    for name in ("present.1.key", "model.layers.0.residual", "logits", "mask.full"):
        assert np.array_equal(
            found[name], known[name].dequantise(known[name].quantise(found[name]))
        )
        assert not np.array_equal(found[name], found[f"{name}.float"])
    float_cache = found["model.layers.0.self_attn.k_rope"]
    codes = known["present.0.key"].quantise(float_cache)
    assert np.array_equal(found["present.0.key"], known["present.0.key"].dequantise(codes))


@pytest.mark.parametrize(
    "kind", ["w8", "w4", "w4_b16", "u4_b16", "w3", "w8_tensor", "mxfp4", "e4m3"]
)
def test_weights_alone(kind: str, tmp_path: Path) -> None:
    """A tensor of the float graph computed with the rounded matrix, and one without a kind."""
    source = make_source(tmp_path)
    model = simulate(source, weights={Q_PROJ: kind}, activations="float")
    values = source.weights[f"{Q_PROJ}.weight"].decode()
    expected = dequantise_rows(quantise_rows(values, KINDS[kind]))
    assert np.array_equal(weight(model, Q_PROJ), expected.T)
    tensors = made(model)
    x = tensors["model.layers.0.input_layernorm"]
    assert np.allclose(tensors[Q_PROJ], x @ expected.T, atol=1e-5)
    untouched = "model.layers.0.self_attn.k_proj"
    assert np.array_equal(
        weight(model, untouched), source.weights[f"{untouched}.weight"].decode().T
    )


@pytest.mark.parametrize("kind", ["w4", "w8_tensor", "e4m3_b128"])
def test_a_head_in_pieces(kind: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, vocab_size=300)
    model = simulate(source, weights={"lm_head": kind}, activations="float")
    pieces = logits(model.clone(), piece_bytes=4 * 32 * 37)
    assert np.allclose(pieces, logits(model), atol=1e-5)


@pytest.mark.parametrize("kind", ["w8", "w16", "w4_b32", "w8_tensor"])
def test_tables(kind: str, tmp_path: Path) -> None:
    """Kinds of tables have one encoding; any other kind that of a matrix."""
    source = make_source(tmp_path)
    model = simulate(source, weights={"model.embed_tokens": kind}, activations="float")
    table = weight(model, "model.embed_tokens")
    assert np.array_equal(made(model)["model.embed_tokens"][0], table[TOKENS])
    exact = source.weights["model.embed_tokens.weight"].decode()
    steps = np.abs(table - exact).max()
    assert 0 < steps < {"w8": 0.006, "w16": 2e-5, "w4_b32": 0.1, "w8_tensor": 0.006}[kind]


def test_codes_that_are_there_already_stay(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    values = source.weights[f"{Q_PROJ}.weight"].decode()
    coded = quantise_rows(values + 0.01, KINDS["w4"])
    write_weights(tmp_path / "w.safetensors", {Q_PROJ: (coded, KINDS["w4"])})
    matrix = placed(tmp_path / "w.safetensors", Q_PROJ, "w4")
    weights = {**source.weights, f"{Q_PROJ}.weight": matrix}
    source = replace(source, weights=weights)
    same = simulate(source, weights={Q_PROJ: "w4"}, activations="float")
    assert np.array_equal(weight(same, Q_PROJ), dequantise_rows(coded).T)
    none = simulate(source, weights={}, activations="float")
    assert np.array_equal(weight(none, Q_PROJ), dequantise_rows(coded).T)
    other = simulate(source, weights={Q_PROJ: "w2"}, activations="float")
    again = dequantise_rows(quantise_rows(dequantise_rows(coded), KINDS["w2"]))
    assert np.array_equal(weight(other, Q_PROJ), again.T)


def placed(path: Path, module: str, kind: str) -> StoredMatrix:
    arrays = {
        tensor.name: StoredArray(path, tensor.offset, TYPES[tensor.format], tensor.shape)
        for tensor in read_header(path)
    }
    return place_written(path, {module: KINDS[kind]}, arrays)[module]


DYNAMIC = {"int8_dynamic": 127, "e4m3_dynamic": 448, "e5m2_dynamic": 57344}
SMALL = {"e4m3_dynamic": ml_dtypes.float8_e4m3fn, "e5m2_dynamic": ml_dtypes.float8_e5m2}


def nearest(x: np.ndarray, activations: str) -> np.ndarray:
    """Round rows by their largest magnitudes as NumPy and ml_dtypes do."""
    steps = np.abs(x).max(-1, keepdims=True) / np.float32(DYNAMIC[activations])
    ratios = x / steps
    if activations == "int8_dynamic":
        return np.rint(ratios) * steps
    return ratios.astype(SMALL[activations]).astype(np.float32) * steps


@pytest.mark.parametrize("activations", DYNAMIC)
def test_dynamic_activations(activations: str, tmp_path: Path) -> None:
    source = make_source(tmp_path)
    found = made(simulate(source, weights={"model.layers.0": "w8"}, activations=activations))
    norm, block = "model.layers.0.input_layernorm", ""
    if activations == "int8_dynamic":  # 32 numbers fit one block
        block = "b32."
    assert np.array_equal(found[f"{norm}.{block}rounded"], nearest(found[norm], activations))
    assert not [name for name in found if name.startswith("model.norm.")]  # its head is float


def test_int8_in_blocks(tmp_path: Path) -> None:
    """As MatMulNBits does; 48 numbers are three blocks of 16, or one and a half of 32."""
    source = make_source(tmp_path)
    product = "model.layers.0.mlp.product"
    for kind, block in (("w4_b16", 16), ("w4_b32", 32)):
        settings = {"weights": {"model.layers.0.mlp.down_proj": kind}}
        found = made(simulate(source, **settings, activations="int8_dynamic"))
        x = found[product]
        padded = np.pad(x, [(0, 0), (0, 0), (0, -48 % block)])
        blocks = padded.reshape(1, -1, padded.shape[-1] // block, block)
        expected = nearest(blocks, "int8_dynamic").reshape(padded.shape)[..., :48]
        assert np.array_equal(found[f"{product}.b{block}.rounded"], expected)


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_blocks_of_ggml(kind: str, tmp_path: Path) -> None:
    from gguf import GGMLQuantizationType, quants

    source = make_source(tmp_path)
    found = weight(simulate(source, weights={Q_PROJ: kind}, activations="float"), Q_PROJ)
    form = GGMLQuantizationType[kind.upper()]
    values = source.weights[f"{Q_PROJ}.weight"].decode()
    expected = quants.dequantize(quants.quantize(values, form), form)
    assert np.allclose(found, expected.T, rtol=1e-6)


def test_a_cache_alone(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    known = {n: e for n, e in encodings(source).items() if n.startswith("present.")}
    found = made(simulate(source, encodings=known, activations="float"))
    assert len(np.unique(found["present.0.value"])) <= 256
    assert [name for name in found if name.endswith(".float")] == [
        f"present.{layer}.{kind}.float" for layer in (0, 1) for kind in ("key", "value")
    ]


def test_a_cache_of_16_bits_is_multiplied_by_8(tmp_path: Path) -> None:
    """HTP's MatMul has no more for a second operand that varies."""
    source = make_source(tmp_path)
    model = simulate(source, encodings=encodings(source, "uint16"), weights=EIGHT_BITS)
    found, name = made(model), "present.0.value"
    fine, coarse = (
        float(model.graph.initializers[f"{part}.quantisation.scale"].const_value.numpy())
        for part in ("model.layers.0.self_attn.v_proj", f"{name}.upper")
    )
    upper = found[f"{name}.upper.dequantised"]
    assert coarse == pytest.approx(256 * fine)
    assert np.abs(upper / coarse - np.rint(upper / coarse)).max() < 1e-4
    assert 0 < np.abs(upper - found[name]).max() <= coarse * 0.5001


def test_encodings_of_another_model(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    known = encodings(source)
    del known["model.layers.1.mlp.product"]
    with pytest.raises(ModelcError, match=r"nothing says how model\.layers\.1\.mlp\.product"):
        simulate(source, encodings=known, weights=EIGHT_BITS)


def test_the_last_block_may_be_narrower(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    module = "model.layers.0.mlp.down_proj"  # of 48 inputs
    found = weight(simulate(source, weights={"model": "w4_b32"}, activations="float"), module)
    values = source.weights[f"{module}.weight"].decode()
    whole = np.pad(values, ((0, 0), (0, 16)))
    expected = dequantise_rows(quantise_rows(whole, KINDS["w4_b32"]))
    assert np.array_equal(found, expected[:, :48].T)


def test_golden_text_with_exact_weights(tmp_path: Path) -> None:
    """Only of the module whose weight is rounded, and from what its tokens were."""
    source = make_source(tmp_path, layers=1)
    exact = {
        name: value.const_value
        for name, value in build_decoder(source, CONTEXT).graph.initializers.items()
        if isinstance(value.const_value, StoredWeight)
    }
    model = simulate(source, weights={Q_PROJ: "w4"}, activations="int8_dynamic")
    before = set(to_text(model).splitlines())
    model, _ = run_passes(model, build_pipeline("exact", {"exact": exact}), graph="exact")
    added = [line for line in to_text(model).splitlines() if line not in before]
    check_golden(GOLDEN / "add_exact.txt", "\n".join(added) + "\n")

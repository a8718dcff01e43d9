"""The quantised graphs: golden text, what is quantised how, and how far the logits move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.golden import check_golden
from support.htp_graphs import (
    VARIANTS,
    boundary,
    encoding_of,
    encodings,
    feeds_of,
    generate,
    lower,
    make_source,
    reference,
    session,
)

from modelc.decoder.config import Rope
from modelc.errors import BadInput, ModelcError
from modelc.ir.encodings import Encoding
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.ir.provenance import module_of
from modelc.ir.text import to_text
from modelc.passes.htp.quantised_weights import kind_of
from modelc.verify.metrics import sqnr_db

GOLDEN = Path(__file__).parent / "golden"
MOVES = {"Concat", "Gather", "Reshape", "Split", "Transpose"}


def test_golden_text_after(tmp_path: Path) -> None:
    """Without the encodings' numbers, which depend on the machine's float arithmetic."""
    source = make_source(tmp_path, layers=1, rope=Rope(dim=4))
    lines = to_text(lower(source, "Quantise", encodings=encodings(source))).splitlines()
    kept = [line for line in lines if "quantisation." not in line.split(" = ")[0]]
    check_golden(GOLDEN / "Quantise.txt", "\n".join(kept) + "\n")


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_stay_close(variant: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, **VARIANTS[variant])
    known = encodings(source)
    models = {ar: lower(source, "Quantise", ar, encodings=known) for ar in (4, 1)}
    graphs = {ar: session(model, tmp_path / f"{ar}.onnx") for ar, model in models.items()}
    edge = boundary(models[4])
    assert edge == boundary(models[1])
    found = generate(source, graphs, edge)
    # Random weights of 32 channels: most of the noise is the int8 weights'.
    assert sqnr_db(reference(source), found) > 25


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    source = make_source(tmp_path_factory.mktemp("model"), architecture="qwen2", biases=True)
    return lower(source, "Quantise", encodings=encodings(source))


def test_no_node_sees_a_float_that_was_not_quantised(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for value in node.inputs:
            if value.dtype == ir.DataType.FLOAT:
                assert value.producer().op_type == "DequantizeLinear", f"{node.name}: {value.name}"


def test_types_at_the_boundary(model: ir.Model) -> None:
    types = {value.name: value.dtype.name for value in [*model.graph.inputs, *model.graph.outputs]}
    caches = {name for name in types if name.startswith("past_")}
    assert len(caches) == 8
    assert {types[name] for name in caches} == {"UINT8"}
    assert types.pop("input_ids") == "INT32"
    assert {types[name] for name in types.keys() - caches} == {"UINT16"}
    edge = boundary(model).encodings
    assert edge["attention_mask"] == Encoding(float(np.float32(100 / 65535)), 65535, "uint16")
    assert edge["attention_mask"].maximum == 0
    assert edge["position_ids_cos"] == edge["position_ids_sin"] == Encoding(2**-15, 32768, "uint16")
    for layer in (0, 1):
        for kind in ("key", "value"):
            cache = f"past_{kind}_{layer}"
            assert edge[f"{cache}_in"] == edge[f"{cache}_out"]
            assert edge[f"{cache}_in"].zero_point == 128


def test_matrices_are_int8_with_zero_points_written_out(model: ir.Model) -> None:
    matrices = 0
    for node in model.graph:
        if node.op_type != "MatMul" or ".weight" not in str(node.inputs[1].name):
            continue
        matrices += 1
        dequantise = node.inputs[1].producer()
        codes, scales, zeros = (value.const_value for value in dequantise.inputs)
        assert dequantise.attributes.get_int("axis") == 1
        assert codes.dtype == zeros.dtype == ir.DataType.INT8
        assert not zeros.numpy().any()
        columns = codes.numpy().shape[1]
        assert scales.numpy().shape == zeros.numpy().shape == (columns,)
        assert (np.abs(codes.numpy().astype(int)).max(0) == 127).all()
    assert matrices == 2 * 7 + 1


@pytest.mark.parametrize("kind", MATRIX_KINDS)
def test_kinds_of_matrices(kind: str, tmp_path: Path) -> None:
    """What ONNX Runtime makes of the written out form is what the codes and scales say."""
    source = make_source(tmp_path, layers=1, intermediate_size=64, hidden_size=64)
    weights = {"": "w8", "model.embed_tokens": "w16", "model.layers.0.mlp": kind}
    model = lower(source, "Quantise", encodings=encodings(source), weights=weights)
    form, name = MATRIX_KINDS[kind], "model.layers.0.mlp.up_proj.weight"
    (matmul,) = (
        n for n in model.graph if module_of(n).endswith("up_proj") and n.op_type == "MatMul"
    )
    dequantise = matmul.inputs[1].producer()
    codes, scales, zeros = dequantise.inputs
    assert codes.dtype == zeros.dtype == ir.DataType[f"INT{form.bits}"]
    assert zeros.is_initializer()
    assert not zeros.const_value.numpy().any()
    assert dequantise.attributes.get_int("block_size", 0) == form.block
    assert dequantise.attributes.get_int("axis") == (0 if form.block else 1)
    assert scales.is_initializer() != bool(form.scale_bits)
    others = {n for n, v in model.graph.initializers.items() if v.dtype == ir.DataType.INT4}
    assert (f"{name}.codes" in others) == (form.bits == 4)
    assert not any("self_attn" in other or "lm_head" in other for other in others)

    back = matmul.inputs[1]
    model.graph.outputs.append(back)
    found = session(model, tmp_path / "m.onnx")(feeds_of(model))[str(back.name)]
    wanted = source.weights[name].decode().T
    assert sqnr_db(wanted, found) > (40 if form.bits == 8 else 15)


def test_a_part_of_a_module_follows_it_and_nothing_is_guessed(tmp_path: Path) -> None:
    kinds = {"model.layers": "w4", "model.layers.0.mlp": "w8", "model.embed_tokens": "w16"}
    assert kind_of("model.layers.0.mlp.up_proj", kinds) == "w8"
    assert kind_of("model.layers.0.mlp_too", kinds) == "w4"
    with pytest.raises(ModelcError, match="nothing says how its weight is stored") as caught:
        source = make_source(tmp_path)
        lower(source, "Quantise", encodings=encodings(source), weights=kinds)
    assert caught.value.where.module == "lm_head"


def test_blocks_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    weights = {"": "w4_b64", "model.embed_tokens": "w16"}
    with pytest.raises(BadInput, match="32 inputs are no whole number of blocks of 64") as caught:
        lower(source, "Quantise", encodings=encodings(source), weights=weights)
    assert caught.value.where.module == "model.layers.0.self_attn.q_proj"


def test_a_cache_of_16_bits_has_the_encoding_of_what_is_cached(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    known = encodings(source, kv="uint16")
    models = {ar: lower(source, "Quantise", ar, encodings=known) for ar in (4, 1)}
    edge = boundary(models[4])
    assert edge == boundary(models[1])
    conversions = [
        node
        for node in models[4].graph
        if node.op_type == "QuantizeLinear"
        and node.inputs[0].producer().op_type == "DequantizeLinear"
    ]
    assert not conversions
    assert {edge.encodings[f"past_{kind}_1_in"].dtype for kind in ("key", "value")} == {"uint16"}
    graphs = {ar: session(model, tmp_path / f"{ar}.onnx") for ar, model in models.items()}
    assert sqnr_db(reference(source), generate(source, graphs, edge)) > 28


def test_what_only_moves_keeps_its_encoding(model: ir.Model) -> None:
    moves = conversions = 0
    for node in model.graph:
        if node.op_type in MOVES:
            count = None if node.op_type == "Concat" else 1
            sources = {encoding_of(value.producer()) for value in node.inputs[:count]}
            results = {encoding_of(n) for value in node.outputs for n in value.consumers()}
            assert len(sources) == 1
            assert results == sources, node.name
            moves += 1
        elif node.op_type == "QuantizeLinear":
            conversions += node.inputs[0].producer().op_type == "DequantizeLinear"
    assert moves > 20
    assert conversions == 4  # new keys and values of two layers become 8 bits


def test_what_is_looked_up_has_the_tables_own_encoding(model: ir.Model) -> None:
    (lookup,) = (node for node in model.graph if node.op_type == "Gather")
    table = encoding_of(lookup.inputs[0].producer())
    (quantise,) = lookup.outputs[0].consumers()
    assert encoding_of(quantise) == table
    codes = lookup.inputs[0].producer().inputs[0].const_value.numpy()
    assert (codes.min(), codes.max()) == (0, 65535)


def test_moved_tensors_share_the_widest_encoding(tmp_path: Path) -> None:
    """Rotation changes a head's range; the part that is not rotated lies in both."""
    source = make_source(tmp_path, layers=1, rope=Rope(dim=4))
    known = encodings(source)
    parts = ["q_proj", "q_heads", "q_rope", "q_rope.rest", "q_rope.turned_first"]
    names = [f"model.layers.0.self_attn.{part}" for part in parts]
    low = min(known[name].minimum for name in names)
    high = max(known[name].maximum for name in names)
    quantised = lower(source, "Quantise", encodings=known)
    found = {
        encoding_of(node)
        for node in quantised.graph
        if node.op_type == "QuantizeLinear" and node.inputs[0].name in names
    }
    (shared,) = found
    assert shared.minimum <= low + shared.scale
    assert shared.maximum >= high - shared.scale


def test_every_weight_stays_lazy(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    graph = lower(source, "Quantise", encodings=encodings(source)).graph
    large = [v.const_value for v in graph.initializers.values() if v.const_value.size > 100]
    assert len(large) == 1 + 2 * 7 + 1
    assert all(isinstance(tensor, ir.LazyTensor) for tensor in large)


def test_a_tensor_without_encoding_is_named(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    known = encodings(source)
    del known["model.layers.1.mlp.product"]
    with pytest.raises(ModelcError, match=r"model\.layers\.1\.mlp\.product is encoded") as caught:
        lower(source, "Quantise", encodings=known)
    assert caught.value.where.module == "model.layers.1.mlp"


def test_provenance_survives(model: ir.Model) -> None:
    assert all(module_of(node) for node in model.graph)
    weight = next(n for n in model.graph if "k_proj.weight" in str(n.outputs[0].name))
    assert module_of(weight) == "model.layers.0.self_attn.k_proj"


def test_a_byte_per_embedding_costs_little(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    known = encodings(source)
    models = {
        ar: lower(source, "Quantise", ar, encodings=known, weights={"": "w8"}) for ar in (4, 1)
    }
    table = models[4].graph.initializers["model.embed_tokens.weight.codes"]
    assert table.dtype == ir.DataType.UINT8
    graphs = {ar: session(model, tmp_path / f"{ar}.onnx") for ar, model in models.items()}
    assert sqnr_db(reference(source), generate(source, graphs, boundary(models[4]))) > 25

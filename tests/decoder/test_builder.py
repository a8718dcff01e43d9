"""The canonical graph's form: names, types, modules; what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderSource, Experts, Rope
from modelc.errors import BadInput, Where
from modelc.ir.legality import check_legal
from modelc.ir.provenance import module_of
from modelc.ir.serial import save_graph
from modelc.ir.text import fingerprint
from modelc.ir.weights import StoredWeight

GEMMA2 = {
    "architecture": "gemma2",
    "attention_softcap": 50.0,
    "logit_softcap": 30.0,
    "embedding_scale": 32**0.5,
    "activation": "gelu_tanh",
    "tied_head": True,
    "windows": (8, 0),
}
EXPERTS = {
    "architecture": "qwen2_moe",
    "experts": Experts(count=4, used=2, hidden=24, layers=(0, 1), shared_hidden=16),
}
CHANGES = [{}, {"architecture": "qwen3"}, GEMMA2, EXPERTS, {"biases": True}]


def build(biases: bool = False, context_length: int = 16, **changes):  # type: ignore[no-untyped-def]
    return build_decoder(tiny_source(tiny_config(**changes), biases=biases), context_length)


def names(model) -> set[str]:  # type: ignore[no-untyped-def]
    return {str(value.name) for node in model.graph for value in node.outputs}


@pytest.mark.parametrize("changes", CHANGES)
def test_every_value_is_typed_and_every_node_has_a_module(changes: dict) -> None:
    model = build(**changes)
    check_legal(model, "canonical", Where())
    for node in model.graph:
        assert module_of(node)
        for value in node.outputs:
            assert value.shape is not None and value.dtype is not None, value.name
            prefix = module_of(node).split(".")[0]
            assert str(value.name).startswith((prefix, "present.", "logits"))


@pytest.mark.parametrize("changes", CHANGES)
def test_shapes_are_those_that_onnx_infers(changes: dict, tmp_path: Path) -> None:
    model = build(**changes)
    path = tmp_path / "graph.onnx"
    save_graph(model, path, Path())
    proto = onnx.load(path, load_external_data=False)
    told = {info.name: info.type for info in proto.graph.value_info}
    del proto.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    compared = 0
    for info in inferred.graph.value_info:
        if info.name not in told:
            continue
        ours, theirs = told[info.name].tensor_type, info.type.tensor_type
        assert ours.elem_type == theirs.elem_type
        for mine, other in zip(ours.shape.dim, theirs.shape.dim, strict=True):
            if mine.HasField("dim_value") and other.HasField("dim_value"):
                assert mine.dim_value == other.dim_value, info.name
        compared += 1
    assert compared > 50


def test_inputs_and_outputs() -> None:
    model = build()
    assert [value.name for value in model.graph.inputs] == [
        "input_ids",
        "position_ids",
        *(f"past_key_values.{i}.{kind}" for i in range(2) for kind in ("key", "value")),
    ]
    assert [value.name for value in model.graph.outputs] == [
        "logits",
        *(f"present.{i}.{kind}" for i in range(2) for kind in ("key", "value")),
    ]
    assert {"model.embed_tokens", "model.layers.0", "model.layers.1.mlp.product"} <= names(model)


def test_a_mask_for_each_window_that_the_context_outgrows() -> None:
    assert {name for name in names(build(windows=(8, 16))) if name.startswith("mask.w")} >= {
        "mask.window.8"
    }
    assert "mask.full" in names(build(windows=(8, 16)))
    assert "mask.full" not in names(build(windows=(8, 8)))
    assert "mask.window.16" in names(build(windows=(8, 16), context_length=32))


def test_tied_head_is_the_embedding_seen_from_the_side() -> None:
    tensors = build(tied_head=True).graph.initializers
    head, embedding = (
        tensors[name].const_value for name in ("lm_head.weight", "model.embed_tokens.weight")
    )
    assert isinstance(head, StoredWeight) and isinstance(embedding, StoredWeight)
    assert head.source == replace(embedding.source, transposed=True)


def test_no_weight_is_read_and_building_is_deterministic() -> None:
    # The weights' file doesn't exist, so reading one would fail.
    assert fingerprint(build(layers=32)) == fingerprint(build(layers=32))


def test_context_beyond_the_model_is_refused() -> None:
    with pytest.raises(BadInput, match="longer than the model's 64") as caught:
        build(context_length=65)
    assert "64" in caught.value.hint
    with pytest.raises(BadInput, match="no context"):
        build(context_length=0)


def without(source: DecoderSource, name: str) -> DecoderSource:
    kept = {key: value for key, value in source.weights.items() if key != name}
    return replace(source, weights=kept)


def test_missing_odd_and_unknown_weights_are_named() -> None:
    source = tiny_source(tiny_config())
    name = "model.layers.1.self_attn.k_proj.weight"
    with pytest.raises(BadInput, match=name):
        build_decoder(without(source, name), 16)
    odd = replace(source.weights[name], shape=(16, 31))
    with pytest.raises(BadInput, match=r"k_proj.weight is \[16, 31\], not \[16, 32\]"):
        build_decoder(replace(source, weights={**source.weights, name: odd}), 16)
    extra = {**source.weights, "model.layers.0.self_attn.q_norm.weight": odd}
    with pytest.raises(BadInput, match=r"llama has no weight .*q_norm"):
        build_decoder(replace(source, weights=extra), 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "lama"}, "unknown architecture 'lama'"),
        ({"heads": 3}, "heads 3, kv_heads 2"),
        ({"kv_heads": 0}, "kv_heads and head_dim"),
        ({"rope": Rope(dim=10)}, "rope.dim"),
        ({"windows": (0,)}, "windows"),
        ({"attention_scale": float("inf")}, "attention scale"),
        ({"logit_softcap": float("nan")}, "softcaps"),
        ({"layers": 10**12}, "windows"),
    ],
)
def test_senseless_configurations_are_refused(changes: dict, message: str) -> None:
    source = tiny_source(tiny_config())
    config = replace(source.config, **changes)
    with pytest.raises(BadInput, match=message):
        build_decoder(replace(source, config=config), 16)

"""Parts of a decoder: run one after the other they are the whole, and on disk they stay whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.genie_loop import Run
from support.htp_graphs import VARIANTS, generate, lower, make_source, reference, session
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.parts import DecoderPart
from modelc.errors import BadInput, ModelcError
from modelc.ir.provenance import canonical_name, set_module
from modelc.ir.serial import load_graph, save_graph
from modelc.ir.text import fingerprint
from modelc.ir.weights import StoredWeight
from modelc.passes.htp.split import split_decoder

EMBEDDING, HEAD = DecoderPart(0, 0, embedding=True), DecoderPart(3, 3, head=True)
CUTS = {
    "one": [DecoderPart(0, 3, embedding=True, head=True)],
    "two": [DecoderPart(0, 1, embedding=True), DecoderPart(1, 3, head=True)],
    "embedding alone": [EMBEDDING, DecoderPart(0, 2), DecoderPart(2, 3, head=True)],
    "head alone": [EMBEDDING, DecoderPart(0, 1), DecoderPart(1, 3), HEAD],
}


def tiny_graph(**changes: object) -> ir.Model:
    """A static graph of three layers whose weights' file is not there."""
    return lower(tiny_source(tiny_config(layers=3, **changes)), "ScaleQueries")


@pytest.mark.parametrize("variant", ["llama", "gemma2"])
@pytest.mark.parametrize("cut", CUTS)
def test_one_after_the_other_they_are_the_whole(cut: str, variant: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, **VARIANTS[variant], layers=3)
    graphs = {}
    for ar in (4, 1):
        parts = split_decoder(lower(source, "ScaleQueries", ar), CUTS[cut])
        graphs[ar] = one_after_the_other(parts, tmp_path / f"{ar}")
    expected, found = reference(source), generate(source, graphs)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def one_after_the_other(parts: Sequence[ir.Model], folder: Path) -> Run:
    folder.mkdir()
    runs = [session(part, folder / f"{number}.onnx") for number, part in enumerate(parts)]

    def run(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        state = dict(feeds)
        for part, call in zip(parts, runs, strict=True):
            state |= call({str(value.name): state[str(value.name)] for value in part.graph.inputs})
        return state

    return run


def test_what_parts_take_and_give() -> None:
    """Names in order; the weights' file isn't there, so nothing has read it."""
    parts = split_decoder(tiny_graph(), CUTS["head alone"])

    def names(values: object) -> list[str]:
        return [value.name for value in values]

    shared = ["attention_mask", "position_ids_cos", "position_ids_sin"]

    def caches(layers: range, direction: str) -> list[str]:
        return [f"past_{kind}_{i}_{direction}" for i in layers for kind in ("key", "value")]

    assert [(names(part.graph.inputs), names(part.graph.outputs)) for part in parts] == [
        (["input_ids"], ["model.embed_tokens"]),
        (
            ["model.embed_tokens", *shared, *caches(range(1), "in")],
            ["model.layers.0", *caches(range(1), "out")],
        ),
        (
            ["model.layers.0", *shared, *caches(range(1, 3), "in")],
            ["model.layers.2", *caches(range(1, 3), "out")],
        ),
        (["model.layers.2"], ["logits"]),
    ]
    weights = [
        str(value.name)
        for part in parts
        for value in part.graph.initializers.values()
        if isinstance(value.const_value, StoredWeight)
    ]
    assert len(weights) == len(set(weights)) == 1 + 3 * 9 + 2


def test_the_given_graph_stays_as_it_is() -> None:
    model = tiny_graph()
    before = fingerprint(model)
    split_decoder(model, CUTS["two"])
    assert fingerprint(model) == before


def test_a_scaled_embedding_is_handed_on_scaled() -> None:
    parts = split_decoder(tiny_graph(embedding_scale=2.0), CUTS["embedding alone"])
    assert [value.name for value in parts[0].graph.outputs] == ["model.embed_tokens.scaled"]
    assert parts[1].graph.inputs[0].name == "model.embed_tokens.scaled"


def test_canonical_names_survive_the_disk(tmp_path: Path) -> None:
    source = make_source(tmp_path, layers=3)
    parts = split_decoder(lower(source, "ScaleQueries"), CUTS["head alone"])
    renamed = 0
    for part in parts:
        save_graph(part, tmp_path / "part.onnx", tmp_path)
        loaded = load_graph(tmp_path / "part.onnx", tmp_path)
        assert fingerprint(loaded) == fingerprint(part)
        names = canonical_names(part)
        assert canonical_names(loaded) == names
        renamed += sum(name != canonical for name, canonical in names.items())
    assert renamed > 20


def canonical_names(model: ir.Model) -> dict[str | None, str]:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return {value.name: canonical_name(value) for value in values}


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [DecoderPart(0, 3, embedding=True)],
        [DecoderPart(0, 3, head=True)],
        [DecoderPart(0, 2, embedding=True, head=True)],
        [DecoderPart(0, 4, embedding=True, head=True)],
        [DecoderPart(0, 2, embedding=True), DecoderPart(1, 3, head=True)],
        [DecoderPart(0, 1, embedding=True), DecoderPart(2, 3, head=True)],
        [DecoderPart(1, 3, embedding=True), DecoderPart(0, 1, head=True)],
        [EMBEDDING, DecoderPart(0, 1, head=True), DecoderPart(1, 3)],
        [DecoderPart(0, 2, embedding=True), DecoderPart(2, 2), DecoderPart(2, 3, head=True)],
    ],
)
def test_parts_that_are_not_the_whole_are_refused(parts: list[DecoderPart]) -> None:
    with pytest.raises(BadInput, match="part"):
        split_decoder(tiny_graph(), parts)


def test_a_node_of_no_part_is_named() -> None:
    model = tiny_graph()
    node = next(node for node in model.graph if node.op_type == "Sigmoid")
    set_module(node, "elsewhere")
    with pytest.raises(ModelcError, match=r"mlp\.sigmoid is of no layer") as caught:
        split_decoder(model, CUTS["one"])
    assert caught.value.where.module == "elsewhere"


def test_only_the_hidden_state_may_cross() -> None:
    model = tiny_graph()
    nodes = {node.name: node for node in model.graph}
    nodes["model.layers.2.residual"].replace_input_with(0, nodes["model.layers.0"].outputs[0])
    with pytest.raises(ModelcError, match="not one hidden state") as caught:
        split_decoder(model, [DecoderPart(0, 2, embedding=True), DecoderPart(2, 3, head=True)])
    assert "model.layers.0" in caught.value.message

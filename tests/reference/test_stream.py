"""The streamed reference against the whole graph in one session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.tiny_source import tiny_config, tiny_source, write_weights
from support.whole_reference import WholeReference

from modelc.decoder.builder import build_decoder
from modelc.errors import BadInput
from modelc.passes.expand import ExpandComposites
from modelc.reference.narrow import split_head
from modelc.reference.parts import cut_at_layers
from modelc.reference.stream import StreamedReference

SEQUENCES = [[1, 5, 9, 12, 3, 39], [7, 7, 2]]


@pytest.fixture
def model(tmp_path: Path) -> ir.Model:
    config = tiny_config(layers=3, windows=(0, 2, 0), tied_head=True, logit_softcap=5.0)
    source = tiny_source(config, tmp_path / "weights.bin")
    write_weights(source)
    return build_decoder(source, context_length=16)


def test_parts_share_values_by_name(model: ir.Model) -> None:
    parts = cut_at_layers(model)
    assert len(parts) == 5
    assert sum(part.graph.num_nodes() for part in parts) == model.graph.num_nodes()
    made = {value.name for value in model.graph.inputs}
    for part in parts:
        assert {value.name for value in part.graph.inputs} <= made
        made |= {value.name for value in part.graph.outputs}
    assert {value.name for value in model.graph.outputs} <= made
    matrices = [
        sum(value.const_value.size > 1000 for value in part.graph.initializers.values())
        for part in parts
    ]
    assert matrices == [1, 5, 5, 5, 1]  # k_proj and v_proj are smaller


@pytest.mark.parametrize("expanded", [False, True])
def test_logits_are_those_of_the_whole_graph(model: ir.Model, expanded: bool) -> None:
    whole = WholeReference(model)
    streamed = StreamedReference(ExpandComposites().apply(model.clone()) if expanded else model)
    found = list(streamed.logits_of(SEQUENCES))
    for sequence, logits in zip(SEQUENCES, found, strict=True):
        whole.reset()
        np.testing.assert_allclose(logits, whole.step(np.array([sequence]))[0], atol=2e-5)
    np.testing.assert_array_equal(streamed.logits(SEQUENCES[1]), found[1])


def test_observer_sees_every_float_tensor_of_every_sequence(model: ir.Model) -> None:
    model = ExpandComposites().apply(model)
    seen: dict[str, list[np.ndarray]] = {}
    reference = StreamedReference(model)
    reference.observe(SEQUENCES, lambda name, array: seen.setdefault(name, []).append(array))
    floats = {
        value.name
        for node in model.graph
        for value in node.outputs
        if value.dtype == ir.DataType.FLOAT
    }
    assert seen.keys() == floats
    assert all(len(arrays) == len(SEQUENCES) for arrays in seen.values())
    np.testing.assert_array_equal(seen["logits"][0][0], reference.logits(SEQUENCES[0]))
    sums = seen["model.layers.2.self_attn.probabilities"][1].sum(axis=-1)
    np.testing.assert_allclose(sums, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "without tokens"),
        ([1] * 17, "context of 16"),
        ([3, 40], "vocabulary of 40"),
        ([-1], "vocabulary"),
    ],
)
def test_what_cant_be_run_is_refused(model: ir.Model, tokens: list[int], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        StreamedReference(model).logits(tokens)
    with pytest.raises(BadInput, match=message):
        WholeReference(model).step(np.array([tokens], np.int64))


def test_a_large_head_in_pieces_gives_the_same_logits(model: ir.Model) -> None:
    pieces = cut_at_layers(split_head(model, piece_bytes=7 * 32 * 4))  # seven rows each
    assert len(pieces) == 4 + 6
    whole, split = StreamedReference(model), StreamedReference(model, piece_bytes=7 * 32 * 4)
    np.testing.assert_allclose(
        split.logits(SEQUENCES[0]), whole.logits(SEQUENCES[0]), rtol=1e-5, atol=1e-6
    )


def test_logits_that_have_no_room_together_are_made_in_groups(
    model: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [*SEQUENCES, [4], [8, 3]]
    together = StreamedReference(model, piece_bytes=7 * 32 * 4)
    wanted = list(together.logits_of(sequences))
    groups: list[int] = []
    run = StreamedReference._run

    def count(self: StreamedReference, parts: object, states: list[object], *rest: object) -> None:
        groups.append(len(states))
        run(self, parts, states, *rest)

    monkeypatch.setattr(StreamedReference, "_run", count)
    monkeypatch.setattr("modelc.reference.stream.LOGITS_BYTES", 4 * 40 * 4)  # four tokens
    found = list(together.logits_of(sequences))
    assert groups == [4] * 4 + [1, 2, 1]  # all through embedding and layers, then the head
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)

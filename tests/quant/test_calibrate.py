"""Ranges of the expanded graph, and the rules that make encodings of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.errors import BadInput, ModelcError
from modelc.ir.encodings import Encoding
from modelc.passes.expand import ExpandComposites
from modelc.quant.calibrate import MASK, activation_encodings, gather_ranges
from modelc.quant.ranges import Range
from modelc.quant.samples.cut import cut_batches
from modelc.quant.schemes import SCHEMES
from modelc.reference.session import Session, empty_caches

W8A16 = SCHEMES["w8a16"]
BATCHES = [[1, 5, 9, 12, 3, 39], [7, 7, 2]]


def expanded(folder: Path, **changes: object) -> ir.Model:
    source = tiny_source(tiny_config(**changes), folder / "weights.bin")
    write_weights(source)
    return ExpandComposites().apply(build_decoder(source, context_length=16))


def test_ranges_are_those_of_the_whole_graph(tmp_path: Path) -> None:
    model = expanded(tmp_path)
    seen: list[float] = []
    ranges = gather_ranges(model, BATCHES, lambda fraction, name: seen.append(fraction))
    assert seen == sorted(seen)
    assert seen[-1] == 1

    names = ["model.layers.0.self_attn.q_rope", "model.layers.1.mlp.product", "present.1.key"]
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    kept = set(model.graph.outputs)
    model.graph.outputs.extend(v for name in names if (v := values[name]) not in kept)
    whole, found = Session(model), {name: [] for name in names}
    for tokens in BATCHES:
        feeds = {
            "input_ids": np.array([tokens]),
            "position_ids": np.arange(len(tokens))[None],
            **empty_caches(model, 1),
        }
        made = whole.run(feeds)
        for name in names:
            found[name].append(made[name])
    for name in names:
        low = min(float(array.min()) for array in found[name])
        high = max(float(array.max()) for array in found[name])
        assert ranges[name].low == pytest.approx(low, abs=1e-5)
        assert ranges[name].high == pytest.approx(high, abs=1e-5)


def test_every_float_tensor_gets_an_encoding(tmp_path: Path) -> None:
    model = expanded(tmp_path, attention_softcap=3.0)
    encodings = activation_encodings(gather_ranges(model, BATCHES))
    floats = {
        value.name
        for node in model.graph
        for value in node.outputs
        if value.dtype == ir.DataType.FLOAT
    }
    assert encodings.keys() == floats
    caches = {name for name, encoding in encodings.items() if encoding.dtype == "uint8"}
    assert caches == {f"present.{layer}.{kind}" for layer in (0, 1) for kind in ("key", "value")}
    assert {encodings[name].zero_point for name in caches} == {128}
    assert encodings["mask.full"] == MASK
    assert (
        encodings["rope.cos.new"] == encodings["rope.sin.new"] == Encoding(2**-15, 32768, "uint16")
    )


def test_outliers_beyond_the_calibration_are_not_clipped_at_once() -> None:
    encodings = activation_encodings({"x": Range(-2, 4), "present.0.key": Range(-2, 1)})
    assert encodings["x"].minimum == pytest.approx(-2.5, rel=1e-3)
    assert encodings["x"].maximum == pytest.approx(5, rel=1e-3)
    assert encodings["present.0.key"].maximum == pytest.approx(2)  # 8 bits have none to spare


def test_caches_of_16_bits() -> None:
    found = activation_encodings({"present.0.key": Range(-2, 1)}, "uint16")["present.0.key"]
    assert (found.dtype, found.zero_point) == ("uint16", 32768)
    assert found.maximum == pytest.approx(2)


def test_rotary_tables_share_one_encoding_as_wide_as_the_attention_factor() -> None:
    ranges = {"rope.cos.new": Range(-1.1, 1.2), "rope.sin.new": Range(-0.9, 1.1)}
    encodings = activation_encodings(ranges)
    assert encodings["rope.cos.new"] == encodings["rope.sin.new"]
    assert encodings["rope.cos.new"].minimum == pytest.approx(-1.2)


@given(
    scores=st.lists(st.floats(-50, 50), min_size=2, max_size=12),
    hidden=st.integers(1, 200),
    cap=st.booleans(),
)
def test_hidden_scores_vanish_and_seen_ones_stay(
    scores: list[float], hidden: int, cap: bool
) -> None:
    """Whatever the scores, softmax over their codes gives hidden positions nothing to speak of."""
    low, high = min(scores), max(scores)
    ranges = {
        "a.scores": Range(-1e3, 1e3),
        "a.scaled": Range(-1e3, 1e3) if cap else Range(low, high),
        "a.masked": Range(float(np.finfo(np.float32).min), high),
    }
    if cap:
        ranges["a.capped"] = Range(low, high)
    encoding = activation_encodings(ranges)["a.masked"]
    masked = np.array([*scores, *(score + MASK.minimum for score in scores[:1] * hidden)])
    found = encoding.dequantise(encoding.quantise(masked)).astype(np.float64)
    chances = np.exp(found - found.max()) / np.exp(found - found.max()).sum()
    assert chances[len(scores) :].sum() < 1e-5
    assert np.abs(found[: len(scores)] - scores).max() <= encoding.scale


def test_masked_scores_without_scores_are_refused() -> None:
    with pytest.raises(ModelcError, match="without scores"):
        activation_encodings({"a.masked": Range(-1, 1)})


def test_batches_are_spread_over_the_text() -> None:
    text = list(range(100, 200))
    batches = cut_batches(text, samples=3, sequence_length=11, first=1)
    assert [len(batch) for batch in batches] == [11, 11, 11]
    assert [batch[0] for batch in batches] == [1, 1, 1]
    assert [batch[1] for batch in batches] == [100, 145, 190]
    assert batches[2][-1] == 199
    assert cut_batches(text, samples=99, sequence_length=50) == [text[:50], text[50:]]
    assert cut_batches(text, samples=1, sequence_length=100) == [text]


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(BadInput, match="100 tokens has no sequence of 101"):
        cut_batches(list(range(100)), samples=1, sequence_length=101)

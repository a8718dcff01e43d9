"""Algorithms see each part as it will be run, and what they make is carried on to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderConfig, DecoderModel
from modelc.errors import BadInput
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS, Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.walk import Checkpoint, count_parts, walk
from modelc.reference.stream import StreamedReference

SAMPLES = [[1, 5, 9, 12, 3, 39], [7, 7, 2, 11, 30]]
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def source(tmp_path: Path) -> DecoderModel:
    config = tiny_config(layers=3, windows=(0, 2, 0), tied_head=True, logit_softcap=5.0)
    source = tiny_source(config, tmp_path / "weights.bin")
    write_weights(source)
    return source


@dataclass(frozen=True)
class Look(Algorithm):
    """Keeps the inputs that it is shown."""

    seen: dict[str, Floats] = field(default_factory=dict)
    name: ClassVar[str] = "look"
    needs_inputs: ClassVar[bool] = True

    def apply(self, layer: Layer) -> None:
        self.seen.update(layer.inputs)


@dataclass(frozen=True)
class Nearest(Algorithm):
    name: ClassVar[str] = "nearest"

    def apply(self, layer: Layer) -> None:
        for module, form in layer.forms.items():
            layer.coded[module] = quantise_rows(layer.weights[f"{module}.weight"], form)


@dataclass(frozen=True)
class Double(Algorithm):
    """Changes everything, so the embedding and the head as well."""

    name: ClassVar[str] = "double"
    whole_model: ClassVar[bool] = True

    def apply(self, layer: Layer) -> None:
        layer.weights = {name: 2 * array for name, array in layer.weights.items()}


@dataclass
class Result:
    layers: dict[str, Layer] = field(default_factory=dict)
    changed: dict[str, Floats] = field(default_factory=dict)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def __call__(self, layer: Layer, changed: Mapping[str, Floats], where: Checkpoint) -> None:
        self.layers[layer.name] = layer
        self.changed |= changed
        self.checkpoints.append(Checkpoint(where.done, [dict(state) for state in where.states]))

    def weights(self) -> dict[str, Floats]:
        coded = {
            f"{module}.weight": dequantise_rows(rows)
            for layer in self.layers.values()
            for module, rows in layer.coded.items()
        }
        return {**self.changed, **coded}


def forms(config: DecoderConfig, kind: str = "w4") -> dict[str, Form]:
    names = [
        f"model.layers.{layer}.{'mlp' if name[0] in 'gud' else 'self_attn'}.{name}"
        for layer in range(config.layers)
        for name in LINEARS
    ]
    return {**dict.fromkeys(names, KINDS[kind]), "lm_head": KINDS["w8"]}


def with_weights(model: ir.Model, weights: Mapping[str, Floats]) -> ir.Model:
    copy = model.clone()
    for name, array in weights.items():
        value = copy.graph.initializers[name]
        turned = any(use.node.op_type == "MatMul" for use in value.uses())
        value.const_value = ir.Tensor(np.ascontiguousarray(array.T if turned else array), name=name)
    return copy


def inputs_in(model: ir.Model) -> dict[str, Floats]:
    """What every tensor of a whole graph is, sequence after sequence."""
    seen: dict[str, list[Floats]] = {}

    def keep(name: str, array: np.ndarray) -> None:
        seen.setdefault(name, []).append(array.reshape(-1, array.shape[-1]).copy())

    StreamedReference(model).observe(SAMPLES, keep)
    widths = {name: {array.shape[-1] for array in arrays} for name, arrays in seen.items()}
    return {name: np.concatenate(a) for name, a in seen.items() if len(widths[name]) == 1}


def test_parts_come_in_order_with_their_weights(source: DecoderModel) -> None:
    model, result = build_decoder(source, 16), Result()
    walk(model, source.config, [Nearest()], forms(source.config), [], result)
    layers = [f"model.layers.{index}" for index in range(3)]
    assert list(result.layers) == ["model.embed_tokens", *layers, "lm_head"]
    assert count_parts(model) == len(result.layers) == result.checkpoints[-1].done
    for name in layers:
        assert {m.rpartition(".")[2] for m in result.layers[name].coded} == set(LINEARS)
    assert not result.changed
    assert not result.layers["lm_head"].coded  # 8 bits: left to its default


def test_inputs_are_those_of_the_float_model(source: DecoderModel) -> None:
    model, look = build_decoder(source, 16), Look()
    chosen = {**forms(source.config), "lm_head": KINDS["w4"]}  # so the head is looked at as well
    walk(model, source.config, [look], chosen, SAMPLES, Result())
    expected = inputs_in(model)
    assert len(look.seen) == 4 * source.config.layers + 1
    for name, array in look.seen.items():
        np.testing.assert_allclose(array, expected[name], atol=2e-5)


def test_inputs_are_those_behind_quantised_layers(source: DecoderModel) -> None:
    model, look, result = build_decoder(source, 16), Look(), Result()
    walk(model, source.config, [look, Nearest()], forms(source.config), SAMPLES, result)
    expected = inputs_in(with_weights(model, result.weights()))
    plain = inputs_in(model)
    for name, array in look.seen.items():
        if name.startswith(("model.layers.1", "model.layers.2")) and "input_layernorm" in name:
            np.testing.assert_allclose(array, expected[name], atol=2e-4)
            assert np.abs(array - plain[name]).max() > 1e-3


def test_the_embedding_and_the_head_are_for_who_asks(source: DecoderModel) -> None:
    model, result = build_decoder(source, 16), Result()
    walk(model, source.config, [Double()], forms(source.config), [], result)
    assert {"model.embed_tokens.weight", "lm_head.weight"} <= result.changed.keys()
    np.testing.assert_array_equal(
        result.changed["lm_head.weight"], 2 * source.weights["model.embed_tokens.weight"].decode()
    )


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_goes_on_where_it_was(source: DecoderModel, stop: int) -> None:
    model, chosen = build_decoder(source, 16), forms(source.config)
    whole = Result()
    walk(model, source.config, [Look(), Nearest()], chosen, SAMPLES, whole)
    rest, look = Result(), Look()
    start = whole.checkpoints[stop - 1]
    walk(model, source.config, [look, Nearest()], chosen, SAMPLES, rest, start)
    assert list(rest.layers) == list(whole.layers)[stop:]
    assert not any(name.startswith(f"model.layers.{stop - 2}.") for name in look.seen)
    for name, array in rest.weights().items():
        np.testing.assert_array_equal(array, whole.weights()[name])


def test_a_weight_that_is_not_finite_is_named(source: DecoderModel) -> None:
    broken = source.weights["model.layers.1.mlp.up_proj.weight"]
    with broken.path.open("r+b") as stream:
        stream.seek(broken.offset)
        stream.write(np.array([np.nan], np.float32).tobytes())
    model = build_decoder(replace(source), 16)
    with pytest.raises(BadInput, match="NaN") as error:
        walk(model, source.config, [Nearest()], forms(source.config), [], Result())
    assert error.value.where.module == "model.layers.1.mlp.up_proj"

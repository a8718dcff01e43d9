"""The text form says what a graph computes: equal graphs, equal text; and a change shows."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.builder import build_decoder
from modelc.ir.text import fingerprint, to_text


@pytest.fixture
def model() -> ir.Model:
    return build_decoder(tiny_source(tiny_config()), 16)


def test_equal_graphs_give_equal_text(model: ir.Model) -> None:
    again = build_decoder(tiny_source(tiny_config()), 16)
    assert to_text(again) == to_text(model)
    assert fingerprint(again) == fingerprint(model)


def test_a_line_names_types_inputs_and_module(model: ir.Model) -> None:
    lines = to_text(model).splitlines()
    assert lines[0].startswith("model opsets(ai.onnx=")
    assert "input  %input_ids: int64[batch, sequence]" in lines
    head = next(line for line in lines if line.startswith("%logits: float[batch, sequence, 40]"))
    assert "MatMul(%model.norm, " in head and head.endswith("# lm_head")
    weight = next(line for line in lines if line.startswith("weight %model.norm.weight"))
    assert "stored<absent.bin@" in weight and ", F32, " in weight
    # One line for the opsets, each input, weight, node and output.
    graph = model.graph
    values = len(graph.inputs) + len(graph.outputs) + len(graph.initializers)
    assert len(lines) == 1 + values + graph.num_nodes()


def rename(model: ir.Model) -> None:
    model.graph.node(0).outputs[0].name = "other"


def change_attribute(model: ir.Model) -> None:
    norm = next(node for node in model.graph if node.op_type == "RMSNormalization")
    norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.5)


def change_output(model: ir.Model) -> None:
    model.graph.outputs.pop()


@pytest.mark.parametrize("change", [rename, change_attribute, change_output])
def test_a_change_shows(change: Callable[[ir.Model], None], model: ir.Model) -> None:
    before = to_text(model), fingerprint(model)
    change(model)
    assert to_text(model) != before[0] and fingerprint(model) != before[1]


def test_a_large_constant_shows_in_the_fingerprint_alone(model: ir.Model) -> None:
    before = to_text(model), fingerprint(model)
    table = model.graph.initializers["rope.cos"]
    assert table.const_value is not None
    values = np.array(table.const_value.numpy())
    values[3, 1] += 1
    table.const_value = ir.Tensor(values, name="rope.cos")
    assert to_text(model) == before[0] and fingerprint(model) != before[1]

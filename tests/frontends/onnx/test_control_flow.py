"""Branches, loops and what depends on data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_sources import assert_canonical, assert_close, run_file, run_graph, write_graph

from modelc.frontends.onnx.network import read_network, unresolved
from modelc.ir.provenance import module_of

FLOAT = TensorProto.FLOAT
X = helper.make_tensor_value_info("x", FLOAT, [2, 3])
DATA = np.arange(6, dtype=np.float32).reshape(2, 3) - 2


def result(name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name)


def body(name: str, *nodes: onnx.NodeProto, output: str = "z") -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [result(output)])


def squeeze_if_one(axis: int) -> list[onnx.NodeProto]:
    """What PyTorch's older exporter writes for `x.squeeze(axis)`, of opset 11."""
    narrow = body("narrow", helper.make_node("Squeeze", ["x"], ["z"], axes=[axis]))
    wide = body("wide", helper.make_node("Identity", ["x"], ["z"]))
    return [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Constant", [], ["axis"], value=onnx.numpy_helper.from_array(
            np.array(axis))),
        helper.make_node("Gather", ["sizes", "axis"], ["size"]),
        helper.make_node("Constant", [], ["one"], value=onnx.numpy_helper.from_array(np.array(1))),
        helper.make_node("Equal", ["size", "one"], ["is_one"]),
        helper.make_node("If", ["is_one"], ["y"], name="/head/If", then_branch=narrow,
                         else_branch=wide),
    ]  # fmt: skip


@pytest.mark.parametrize(("sizes", "operators"), [([1, 3], ["Squeeze"]), ([2, 3], ["Identity"])])
def test_a_branch_that_is_known(sizes: list[int], operators: list[str], tmp_path: Path) -> None:
    source = helper.make_tensor_value_info("x", FLOAT, ["n", 3])
    graph = helper.make_graph(squeeze_if_one(0), "g", [source], [result("y")])
    path = write_graph(tmp_path / "if.onnx", graph, 11)
    model = read_network(path, {"n": sizes[0]})
    assert_canonical(model)
    assert [node.op_type for node in model.graph] == operators
    assert [module_of(node) for node in model.graph] == ["head"]
    feeds = {"x": np.ones(sizes, np.float32)}
    assert_close(run_graph(model, feeds, tmp_path), run_file(path, feeds))


def test_a_branch_that_gives_a_weight(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(DATA, "w")
    taken = helper.make_graph([helper.make_node("Neg", ["x"], ["z"])], "t", [],
                              [result("z"), result("w")], [weight])  # fmt: skip
    nodes = [helper.make_node("Abs", ["x"], [name]) for name in "zu"]
    other = helper.make_graph(nodes, "o", [], [result("z"), result("u")])
    node = helper.make_node("If", ["yes"], ["a", "b"], then_branch=taken, else_branch=other)
    stored = onnx.numpy_helper.from_array(np.array(True), "yes")
    graph = helper.make_graph([node], "g", [X], [result("a"), result("b")], [stored])
    path = write_graph(tmp_path / "if.onnx", graph)
    model = read_network(path)
    assert_canonical(model)
    assert_close(run_graph(model, {"x": DATA}, tmp_path), run_file(path, {"x": DATA}))


def test_a_branch_that_depends_on_data_stays(tmp_path: Path) -> None:
    then = body("then", helper.make_node("Softmax", ["x"], ["s"], axis=0),
                helper.make_node("Neg", ["s"], ["z"]))  # fmt: skip
    other = body("other", helper.make_node("Clip", ["x"], ["z"], min=0.0))
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
        helper.make_node("If", ["yes"], ["y"], name="choice", then_branch=then, else_branch=other),
        helper.make_node("Relu", ["y"], ["r"]),
    ]
    graph = helper.make_graph(nodes, "g", [X], [result("r")])
    path = write_graph(tmp_path / "if.onnx", graph, 10)
    model = read_network(path)
    assert [node.name for node in unresolved(model)] == ["choice"]
    assert list(model.graph.outputs[0].shape or ()) == [2, 3]  # both branches say so
    for data in (DATA, np.zeros_like(DATA)):
        feeds = {"x": data}
        assert_close(run_graph(model, feeds, tmp_path), run_file(path, feeds))


def test_sizes_that_depend_on_data_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"], name="/nms/NonZero"),
        helper.make_node("Transpose", ["places"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [X], [result("y")])
    model = read_network(write_graph(tmp_path / "data.onnx", graph))
    (node,) = unresolved(model)
    assert (node.op_type, module_of(node)) == ("NonZero", "nms")


def test_small_constants_are_computed_as_onnx_runtime_does(tmp_path: Path) -> None:
    """Integers are divided towards 0, which the onnx package's own evaluator doesn't."""
    stored = {"a": np.array([-7, 7]), "b": np.array([2, -2])}
    nodes = [
        helper.make_node("Div", ["a", "b"], ["c"]),
        helper.make_node("Cast", ["c"], ["f"], to=FLOAT),
        helper.make_node("Concat", ["f", "x"], ["y"], axis=0),
    ]
    source = helper.make_tensor_value_info("x", FLOAT, [1])
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()]
    path = write_graph(
        tmp_path / "div.onnx", helper.make_graph(nodes, "g", [source], [result("y")], tensors)
    )
    model = read_network(path)
    assert [node.op_type for node in model.graph] == ["Concat"]
    feeds = {"x": np.zeros(1, np.float32)}
    assert_close(run_graph(model, feeds, tmp_path), run_file(path, feeds))


def test_a_constant_result_keeps_its_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("Shape", ["x"], ["sizes"]), helper.make_node("Relu", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [X], [result("sizes"), result("y")])
    path = write_graph(tmp_path / "shape.onnx", graph)
    model = read_network(path)
    assert_canonical(model)
    assert_close(run_graph(model, {"x": DATA}, tmp_path), run_file(path, {"x": DATA}))

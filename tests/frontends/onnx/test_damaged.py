"""Damaged files are read or refused, and cost neither time nor memory."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from modelc.errors import BadInput
from modelc.frontends.onnx.network import read_network

X, Y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy")
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def whole() -> bytes:
    """A file with everything in it that is read: old operators, shapes, a branch, a function."""
    layer = helper.make_function(
        "local", "Layer", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"], name="f/Relu")],
        [helper.make_opsetid("", 11)],
    )  # fmt: skip
    result = onnx.ValueInfoProto(name="z")
    branch = [
        helper.make_graph([helper.make_node(op, ["s"], ["z"])], op, [], [result])
        for op in ("Neg", "Abs")
    ]
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "zero", "one"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["two"], axis=0),
        helper.make_node("Reshape", ["x", "two"], ["flat"]),
        helper.make_node("Add", ["flat", "w"], ["sum"], name="/block/Add"),
        helper.make_node("Layer", ["sum"], ["l"], domain="local"),
        helper.make_node("Softmax", ["l"], ["s"], axis=0),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]
    stored = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1]),
              "w": WEIGHT, "yes": np.array(True)}  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [X], [Y], [onnx.numpy_helper.from_array(a, n) for n, a in stored.items()]
    )
    imports = [helper.make_opsetid("", 11), helper.make_opsetid("local", 1)]
    proto = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=[layer])
    return bytes(proto.SerializeToString())


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "whole.onnx").write_bytes(whole())
    graph = read_network(tmp_path / "whole.onnx")
    assert "If" not in {node.op_type for node in graph.graph}


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = bytearray(whole())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = tmp_path / "damaged.onnx"
    path.write_bytes(bytes(content[:cut]))
    try:
        read_network(path)
    except BadInput as error:
        assert error.hint
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # in kB

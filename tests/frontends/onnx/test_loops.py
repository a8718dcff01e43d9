"""Loops and scans of a known number of rounds are written out, and give what ONNX Runtime gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_sources import assert_canonical, assert_close, run_file, run_graph, write_graph

from modelc.frontends.onnx.loops import MOST_ROUNDS
from modelc.frontends.onnx.network import read_network, unresolved
from modelc.ir.provenance import module_of

FLOAT = TensorProto.FLOAT
DATA = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
SEQUENCE = np.sin(np.arange(40, dtype=np.float32)).reshape(5, 2, 4)


def port(name: str, sizes: list[int] | None = None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def result(name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name)


def stored(**arrays: Any) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def compare(path: Path, feeds: dict[str, np.ndarray], folder: Path) -> ir.Model:
    model = read_network(path)
    assert_close(run_graph(model, feeds, folder), run_file(path, feeds))
    return model


def write_loop(
    path: Path, rounds: int = 3, keep_going: bool = True, goes_on: str = "on", **more: Any
) -> Path:
    """Write a Loop that doubles and adds a weight of its own, its number and an outer tensor; it
    gives its state and a row of each round."""
    nodes = [
        helper.make_node("Identity", ["cond"], ["on"]),
        helper.make_node("Cast", ["i"], ["number"], to=FLOAT),
        helper.make_node("Add", ["state", "outer"], ["a"]),
        helper.make_node("Mul", ["a", "own"], ["b"], name="/step/Mul"),
        helper.make_node("Add", ["b", "number"], ["next"]),
        helper.make_node("ReduceSum", ["next"], ["total"], keepdims=0),
        helper.make_node("Less", ["total", "limit"], ["small"]),
    ]
    body = helper.make_graph(
        nodes, "body",
        [port("i", [], TensorProto.INT64), port("cond", [], TensorProto.BOOL), port("state")],
        [port(goes_on, [], TensorProto.BOOL), port("next"), port("b"), port("state")],
        stored(own=np.float32(2), limit=np.float32(5)),
    )  # fmt: skip
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["outer"]),
            helper.make_node("Loop", ["rounds", "yes", "x"], ["y", "rows", "before"],
                             "/decoder/Loop", body=body),
            helper.make_node("Relu", ["rows"], ["z"]),
        ],
        "g", [port("x", [2, 3])], [result("y"), result("z"), result("before")],
        stored(rounds=rounds, yes=keep_going),
    )  # fmt: skip
    return write_graph(path, graph, **more)


@pytest.mark.parametrize("rounds", [1, 3, MOST_ROUNDS])
def test_a_loop(rounds: int, tmp_path: Path) -> None:
    model = compare(write_loop(tmp_path / "loop.onnx", rounds), {"x": DATA / 1e9}, tmp_path)
    assert_canonical(model)
    operators = [node.op_type for node in model.graph]
    assert operators.count("Mul") == rounds and not unresolved(model)
    assert {module_of(n) for n in model.graph if n.op_type == "Mul"} == {"decoder.step"}
    assert list(model.graph.outputs[1].shape or ()) == [rounds, 2, 3]


GOLDEN = """\
Neg(x) -> outer
Add(x, outer) -> a.0
Mul(a.0, own.0) -> b.0
Add(b.0, number.0) -> next.0
Add(next.0, outer) -> a.1
Mul(a.1, own.1) -> b.1
Add(b.1, number.1) -> y
"""


def test_the_graph_of_two_rounds(tmp_path: Path) -> None:
    model = read_network(write_loop(tmp_path / "loop.onnx", 2))
    lines = [
        f"{node.op_type}({', '.join(str(v.name) for v in node.inputs if v)}) -> "
        f"{node.outputs[0].name}\n"
        for node in model.graph
        if node.op_type in ("Neg", "Add", "Mul")
    ]
    assert "".join(lines) == GOLDEN
    numbers = model.graph.initializers
    assert [numbers[name].const_value.numpy() for name in ("number.0", "number.1")] == [0, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options",
    [{"rounds": MOST_ROUNDS + 1}, {"keep_going": False}, {"rounds": 0}, {"goes_on": "small"}],
)
def test_loops_that_stay(options: dict[str, Any], tmp_path: Path) -> None:
    """Too many rounds, none at all, or an end that depends on data."""
    path = write_loop(tmp_path / "loop.onnx", **options)
    model = compare(path, {"x": DATA / 1e20}, tmp_path)
    assert [node.op_type for node in unresolved(model)] == ["Loop"]


def test_a_loop_in_a_loop(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["s", "outer_state"], ["s2"]),
         helper.make_node("Identity", ["c"], ["c2"])],
        "inner", [port("j", [], TensorProto.INT64), port("c", [], TensorProto.BOOL), port("s")],
        [port("c2", [], TensorProto.BOOL), port("s2")],
    )  # fmt: skip
    outer = helper.make_graph(
        [helper.make_node("Abs", ["state"], ["outer_state"]),
         helper.make_node("Loop", ["two", "", "outer_state"], ["t"], body=inner)],
        "outer", [port("i", [], TensorProto.INT64), port("k", [], TensorProto.BOOL), port("state")],
        [port("k", [], TensorProto.BOOL), port("t")],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["three", "", "x"], ["y"], body=outer)
    graph = helper.make_graph([loop], "g", [port("x", [2, 3])], [result("y")],
                              stored(two=2, three=3))  # fmt: skip
    model = compare(write_graph(tmp_path / "g.onnx", graph), {"x": DATA}, tmp_path)
    assert [node.op_type for node in model.graph].count("Add") == 6 and not unresolved(model)


@pytest.mark.parametrize("opset", [9, 16, 23])
@pytest.mark.parametrize("backward", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scan(axis: int, backward: int, opset: int, tmp_path: Path) -> None:
    """Running sums and products, along any axis of input and output, forward and backward."""
    if opset == 9 and axis < 0:
        pytest.skip("opset 9 has no negative axes")
    sizes = np.delete(SEQUENCE.shape, axis).tolist()
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "slice"], ["next"], name="/cell/Add"),
         helper.make_node("Mul", ["next", "slice"], ["row"], name="/cell/Mul")],
        "body", [port("state", sizes), port("slice", sizes)],
        [port("next", sizes), port("row", sizes)],
    )  # fmt: skip
    scan = helper.make_node(
        "Scan", ["start", "x"], ["last", "rows"], "/rnn/Scan", body=body, num_scan_inputs=1,
        scan_input_axes=[axis], scan_input_directions=[backward], scan_output_axes=[axis],
        scan_output_directions=[backward],
    )  # fmt: skip
    graph = helper.make_graph(
        [scan], "g", [port("x", list(SEQUENCE.shape))], [result("last"), result("rows")],
        stored(start=np.ones(sizes, np.float32)),
    )  # fmt: skip
    path = write_graph(tmp_path / "scan.onnx", graph, opset)
    model = compare(path, {"x": SEQUENCE}, tmp_path)
    assert_canonical(model)
    assert not unresolved(model)
    assert {module_of(n) for n in model.graph if n.op_type == "Mul"} == {"rnn.cell"}
    assert list(model.graph.outputs[1].shape or ()) == list(SEQUENCE.shape)


def node_tests(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Return node, inputs and outputs of ONNX's own tests of loops, by name."""
    from onnx.backend.test.case.node import loop, scan

    found: dict[str, tuple[Any, ...]] = {}

    def keep(node: Any, inputs: Any, outputs: Any, name: str, **_: Any) -> None:
        found[name] = (node, inputs, outputs)

    for module in (loop, scan):
        monkeypatch.setattr(module, "expect", keep)
    loop.Loop.export_loop_11()
    scan.Scan.export_scan_9()
    return found


def test_onnx_own_node_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What says how often they run is stored; the rest they take as ever."""
    cases = node_tests(monkeypatch)
    assert {"test_loop11", "test_scan9_sum"} <= cases.keys()
    for name, (node, inputs, outputs) in cases.items():
        given = dict(zip(node.input, map(np.asarray, inputs), strict=True))
        fixed = {n: array for n, array in given.items() if array.dtype.kind in "ib"}
        feeds = {n: array for n, array in given.items() if n not in fixed}
        graph = helper.make_graph(
            [node], name, [port(n, list(array.shape)) for n, array in feeds.items()],
            [result(n) for n in node.output], stored(**fixed),
        )  # fmt: skip
        model = read_network(write_graph(tmp_path / f"{name}.onnx", graph, 11))
        assert not unresolved(model), name
        made = run_graph(model, feeds, tmp_path)
        for found, wanted in zip(made.values(), outputs, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, err_msg=name)

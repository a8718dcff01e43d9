import onnx_ir as ir
import pytest

from modelc.errors import ModelcError
from modelc.ir.liveness import Peak, peak_activations
from modelc.ir.provenance import set_module


def value(name: str, *shape: int | str, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def node(op: str, inputs: list[ir.Value], output: ir.Value) -> ir.Node:
    made = ir.Node("", op, inputs, outputs=[output])
    set_module(made, f"at.{output.name}")
    return made


def model(inputs: list[ir.Value], outputs: list[ir.Value], nodes: list[ir.Node]) -> ir.Model:
    graph = ir.Graph(inputs, outputs, nodes=nodes, opset_imports={"": 23}, name="g")
    return ir.Model(graph, ir_version=10)


def test_a_value_lives_to_its_last_reader() -> None:
    """x -> a (100 bytes) -> b (400) -> c (200) -> y: all three meet only if c reads a as well."""
    for again, peak in ((True, 700), (False, 600)):
        x, y = value("x", 1), value("y", 1)
        a, b, c = value("a", 25), value("b", 100), value("c", 50)
        nodes = [
            node("Expand", [x], a),
            node("Tile", [a], b),
            node("Sum", [b, a] if again else [b], c),
            node("ReduceSum", [c], y),
        ]
        assert peak_activations(model([x], [y], nodes), {}) == Peak(peak, "at.c")


def test_a_view_shares_memory_and_keeps_it_alive() -> None:
    x, y = value("x", 1), value("y", 1)
    a, view, b = value("a", 10), value("view", 2, 5), value("b", 10)
    nodes = [node("Expand", [x], a), node("Reshape", [a], view), node("Neg", [view], b),
             node("Sum", [b], y)]  # fmt: skip
    assert peak_activations(model([x], [y], nodes), {}).nbytes == 80  # a, under either name, and b


def test_symbolic_sizes_and_narrow_floats() -> None:
    x, y = value("x", 1), value("y", 1)
    a = value("a", "sequence", 8)
    mask = value("mask", "sequence", dtype=ir.DataType.INT64)
    nodes = [node("Expand", [x], a), node("Cast", [a], mask), node("Sum", [a, mask], y)]
    graph = model([x], [y], nodes)
    assert peak_activations(graph, {"sequence": 4}).nbytes == 4 * 8 * 4 + 4 * 8
    assert peak_activations(graph, {"sequence": 4}, 2).nbytes == 4 * 8 * 2 + 4 * 8
    with pytest.raises(ModelcError, match="size of a"):
        peak_activations(graph, {})


def test_a_value_without_a_shape_is_named() -> None:
    x, y = value("x", 1), value("y", 1)
    bare = ir.Value(name="bare")
    nodes = [node("Neg", [x], bare), node("Sum", [bare], y)]
    with pytest.raises(ModelcError, match="bare has no shape"):
        peak_activations(model([x], [y], nodes), {})

"""Reading static graphs: sizes, constants, attributes with their defaults, who makes what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


def sizes_of(value: ir.Value) -> tuple[int, ...]:
    """Return the sizes of a value of a static graph."""
    assert value.shape is not None and value.shape.is_static(), f"{value.name}: {value.shape}"
    return tuple(int(size) for size in value.shape.numpy())


def is_static(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and value.shape.is_static()


def has_sizes(node: ir.Node) -> bool:
    """Whether everything that a node reads and makes has static sizes, none of them 0."""
    values = [*(v for v in node.inputs if v is not None), *(v for v in node.outputs if v.name)]
    return all(is_static(value) and 0 not in sizes_of(value) for value in values)


def dtype_of(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None, f"{value.name} has no type"
    return value.dtype


def tensor_of(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Return the tensor of an initialiser or of a Constant node; nothing is read."""
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is not None and is_op(node, "Constant") and "value" in node.attributes:
        return node.attributes["value"].as_tensor()
    return None


def constant_of(value: ir.Value | None) -> np.ndarray | None:
    """Return the numbers of a constant, or None if it is none."""
    tensor = tensor_of(value)
    return None if tensor is None else tensor.numpy()


def number_of(value: ir.Value | None) -> float | None:
    """Return the number of a constant of one element, or None if it is none."""
    tensor = tensor_of(value)
    return None if tensor is None or tensor.size != 1 else float(tensor.numpy().reshape(()))


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of the default domain."""
    return node is not None and node.domain == "" and node.op_type in op_types


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """Return the node that makes a value, if it is one of these operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, *op_types) else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the node that reads a value, if it is the only one and the value is no output."""
    if value.is_graph_output() or len(value.uses()) != 1:
        return None
    return next(iter(value.consumers()))


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """Return an input that may have been left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def needed(node: ir.Node, index: int = 0) -> ir.Value:
    """Return an input that can't have been left out."""
    value = node.inputs[index]
    assert value is not None, f"{node.name} has no input {index}"
    return value


def is_used(node: ir.Node, index: int) -> bool:
    """Whether an output that may have been left out is read, or is one of the graph's."""
    if index >= len(node.outputs):
        return False
    value = node.outputs[index]
    return bool(value.uses()) or value.is_graph_output()


def integer(node: ir.Node, name: str, default: int) -> int:
    return int(node.attributes.get_int(name, default))


def integers(node: ir.Node, name: str, default: Sequence[int] = ()) -> list[int]:
    return [int(number) for number in node.attributes.get_ints(name, default)]


def real(node: ir.Node, name: str, default: float) -> float:
    return float(node.attributes.get_float(name, default))


def text(node: ir.Node, name: str, default: str) -> str:
    return str(node.attributes.get_string(name, default))


def axis_of(node: ir.Node, default: int, rank: int, name: str = "axis") -> int:
    """Return an axis counted from the front."""
    return integer(node, name, default) % max(rank, 1)

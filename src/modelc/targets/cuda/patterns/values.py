"""Reading a node's inputs and attributes."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from modelc.ir.emit import dims_of

Tensors = dict[str, str | None]
"""Names of buffers, weights and inputs, by a kernel's parameters."""


def values_of(node: ir.Node, count: int, *, optional: bool = False) -> list[Any]:
    """Inputs of a node; those that may be left out are None."""
    values = [*node.inputs, *[None] * (count - len(node.inputs))]
    assert len(values) == count and (optional or None not in values), node.op_type
    return values


def width_of(value: ir.Value) -> int:
    return size_of(dims_of(value)[-1])


def size_of(dim: int | str) -> int:
    assert isinstance(dim, int)
    return dim


def number(node: ir.Node, name: str) -> int:
    return node.attributes.get_int(name, 0)


def real(node: ir.Node, name: str, default: float | None = None) -> float:
    value = node.attributes.get_float(name, default)
    assert value is not None, f"{node.op_type} has no {name}"
    return float(value)


def text(node: ir.Node, name: str) -> str:
    return node.attributes.get_string(name, "none")

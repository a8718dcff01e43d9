"""Layer and RMS normalisation as exporters spell them out, back into one operator.

HTP has an operator for either, so that x^2 and its mean are no tensors that half precision or
codes must hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    has_sizes,
    input_of,
    integer,
    is_op,
    made_by,
    needed,
    number_of,
    only_reader,
    sizes_of,
)
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch


@dataclass(frozen=True)
class FuseNorms(Pass):
    """(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * scale + bias over the last axis becomes
    LayerNormalization, x / sqrt(mean(x^2) + eps) * scale RMSNormalization.

    Pow or Mul for the square, Div by the root or Mul by its reciprocal, operands in either order.
    Where only the centred and divided form is there, scale is 1 and bias 0.
    """

    name: ClassVar[str] = "fuse_norms"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        for node in list(model.graph):
            if node.graph is None or not has_sizes(node):  # it went into an earlier norm
                continue
            found = _match(node)
            if found is not None:
                _fuse(model.graph, found, names)
        sweep(model)
        return model


@dataclass(frozen=True)
class _Norm:
    """source [..., n], the nodes of the normal form, the last one first; epsilon."""

    source: ir.Value
    centred: bool
    epsilon: float
    nodes: list[ir.Node]


def _match(node: ir.Node) -> _Norm | None:
    """Match x / root or x * (1 / root), whose x is centred or not."""
    if is_op(node, "Div"):
        value, root = needed(node, 0), needed(node, 1)
        inner = [node]
    elif is_op(node, "Mul"):
        for index in (0, 1):
            inverse = _inverse(needed(node, index))
            if inverse is not None:
                value, (root, inner) = needed(node, 1 - index), inverse
                inner = [node, *inner]
                break
        else:
            return None
    else:
        return None
    square_root = made_by(root, "Sqrt")
    shifted = made_by(square_root.inputs[0], "Add") if square_root else None
    if shifted is None or square_root is None:
        return None
    mean, epsilon = _with_number(shifted)
    average = made_by(mean, "ReduceMean")
    if epsilon is None or average is None or not _last_axis(average):
        return None
    if not _is_square(needed(average), value):
        return None
    nodes = [*inner, square_root, shifted, average]
    centring = _centred(value)
    if centring is None:
        return _Norm(value, False, epsilon, nodes)
    return _Norm(needed(centring), True, epsilon, [*nodes, centring])


def _inverse(value: ir.Value) -> tuple[ir.Value, list[ir.Node]] | None:
    if (node := made_by(value, "Reciprocal")) is not None:
        return needed(node), [node]
    if (node := made_by(value, "Div")) is not None and number_of(node.inputs[0]) == 1:
        return needed(node, 1), [node]
    return None


def _with_number(add: ir.Node) -> tuple[ir.Value | None, float | None]:
    for index in (0, 1):
        number = number_of(add.inputs[index])
        if number is not None and number > 0:
            return add.inputs[1 - index], number
    return None, None


def _last_axis(reduce: ir.Node) -> bool:
    axes = constant_of(input_of(reduce, 1))
    if not has_sizes(reduce):
        return False
    rank = len(sizes_of(needed(reduce)))
    last = axes is not None and [int(axis) % rank for axis in axes.reshape(-1)] == [rank - 1]
    return last and integer(reduce, "keepdims", 1) == 1


def _is_square(square: ir.Value, value: ir.Value) -> bool:
    """Whether a value is the square of another, or of one computed like it: exporters write the
    centred value twice."""
    node = made_by(square, "Pow", "Mul")
    if node is None or not _same(needed(node), value):
        return False
    return number_of(node.inputs[1]) == 2 if node.op_type == "Pow" else _same(node.inputs[1], value)


def _same(left: ir.Value | None, right: ir.Value | None) -> bool:
    if left is right:
        return True
    a, b = made_by(left, "Sub"), made_by(right, "Sub")
    return a is not None and b is not None and list(a.inputs) == list(b.inputs)


def _centred(value: ir.Value) -> ir.Node | None:
    sub = made_by(value, "Sub")
    mean = made_by(sub.inputs[1], "ReduceMean") if sub else None
    centred = sub is not None and mean is not None and mean.inputs[0] is sub.inputs[0]
    return sub if centred and mean is not None and _last_axis(mean) else None


def _fuse(graph: ir.Graph, norm: _Norm, names: Names) -> None:
    width = sizes_of(norm.source)[-1]
    last, nodes = norm.nodes[0], list(norm.nodes[1:])
    scale, scaling = _vector_behind(last, "Mul", width)
    if scaling is not None:
        nodes.append(last)
        last = scaling
    bias = None
    if norm.centred:
        bias, shifting = _vector_behind(last, "Add", width)
        if shifting is not None:
            nodes.append(last)
            last = shifting
    sketch = Sketch(graph, last, names)
    ones = np.ones(width, dtype_of(norm.source).numpy())
    inputs = [norm.source, scale or sketch.constant(ones, "scale")]
    if bias is not None:
        inputs.append(bias)
    op_type = "LayerNormalization" if norm.centred else "RMSNormalization"
    result = sketch.op(op_type, inputs, sizes_of(norm.source), axis=-1, epsilon=norm.epsilon)
    sketch.finish([result], nodes[::-1])


def _vector_behind(
    node: ir.Node, op_type: str, width: int
) -> tuple[ir.Value | None, ir.Node | None]:
    """Return the constant [width] that the only reader of a node multiplies or adds, and that
    reader."""
    value = node.outputs[0]
    reader = only_reader(value)
    if reader is None or not is_op(reader, op_type):
        return None, None
    other = reader.inputs[1] if reader.inputs[0] is value else reader.inputs[0]
    vector = constant_of(other)
    fits = vector is not None and vector.shape == (width,) and other is not None
    return (other, reader) if fits else (None, None)

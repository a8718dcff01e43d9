"""Linear layers in the graph: MatMul with a stored matrix, perhaps with a bias added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import dims_of
from modelc.ir.stored import StoredMatrix, tensor_shape
from modelc.ir.weights import DerivedWeight, StoredWeight
from modelc.passes.cpu.contrib import only_reader


@dataclass(frozen=True)
class Linear:
    """One linear layer.

    Attributes:
        nodes: the MatMul and, if there is a bias, its Add.
        weight: [in, out] over `matrices`, which lie side by side.
    """

    nodes: tuple[ir.Node, ...]
    x: ir.Value
    weight: ir.Value
    matrices: tuple[StoredMatrix, ...]
    bias: ir.Value | None

    @property
    def result(self) -> ir.Value:
        return self.nodes[-1].outputs[0]

    @property
    def width(self) -> int:
        width = dims_of(self.weight)[1]
        assert isinstance(width, int)
        return width


class SideBySide(DerivedWeight):
    """Transposed matrices, or vectors, one beside the other: the weight of merged layers."""

    def __init__(self, sources: Sequence[StoredMatrix], name: str) -> None:
        shapes = [tensor_shape(source) for source in sources]
        super().__init__(
            sources,
            "side by side",
            lambda: np.concatenate([source.decode() for source in sources], axis=-1),
            ir.DataType.FLOAT,
            [*shapes[0][:-1], sum(shape[-1] for shape in shapes)],
            name,
        )


def linears(graph: ir.Graph) -> Iterator[Linear]:
    """Yield the linear layers in the order of their MatMuls."""
    for node in list(graph):
        if node.op_type != "MatMul":
            continue
        x, weight = node.inputs
        assert x is not None and weight is not None
        matrices = matrices_of(weight)
        if not matrices:
            continue
        add, bias = _bias(node)
        nodes = (node, add) if add is not None else (node,)
        yield Linear(nodes, x, weight, matrices, bias)


def matrices_of(value: ir.Value) -> tuple[StoredMatrix, ...]:
    """Return the stored matrices that an initialiser is made of, side by side."""
    tensor = value.const_value
    if isinstance(tensor, SideBySide):
        return tensor.sources
    return (tensor.source,) if isinstance(tensor, StoredWeight) else ()


def _bias(matmul: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    add = only_reader(matmul.outputs[0])
    if add is None or add.op_type != "Add":
        return None, None
    other = add.inputs[1] if add.inputs[0] is matmul.outputs[0] else add.inputs[0]
    if other is None or not matrices_of(other):
        return None, None
    return add, other

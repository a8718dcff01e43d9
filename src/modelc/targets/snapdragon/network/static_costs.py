"""What each node of a network costs wherever it runs: multiply-adds and bytes, from its sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import onnx_ir as ir

from modelc.ir.onnx_file import read_whole
from modelc.ir.provenance import module_of

CONVERSIONS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})

Shape = tuple[int, ...]


@dataclass(frozen=True)
class StaticCost:
    """The cost of a node.

    Attributes:
        macs: multiply-adds of matrices and convolutions; None where they can't be told: the
            operator has some, but by a rule that isn't known here, or sizes depend on data.
        weight_bytes: of its constants, as they are stored: codes count, not floats.
        activation_bytes: of all other tensors that it reads and writes, as they are stored; those
            whose sizes depend on data don't count.
    """

    node: str
    op_type: str
    module: str
    macs: int | None
    weight_bytes: int
    activation_bytes: int


def static_costs(model: Path) -> tuple[StaticCost, ...]:
    """Return the cost of each node of an ONNX graph, in its order.

    Conversions between floats and codes have no row: they say how other nodes' tensors are stored.

    Raises:
        BadInput: the model is damaged.
    """
    return costs_of(read_whole(model).graph)


def costs_of(graph: ir.Graph) -> tuple[StaticCost, ...]:
    """Return the cost of each node of a graph; what graphs inside of nodes cost doesn't count."""
    return tuple(_cost(node) for node in graph if node.op_type not in CONVERSIONS)


def _cost(node: ir.Node) -> StaticCost:
    inputs = [_stored(value) for value in node.inputs if value is not None]
    weights = [value for value in inputs if value.const_value is not None]
    others = [value for value in inputs if value.const_value is None]
    outputs = [_written(value) for value in node.outputs if value.name]
    return StaticCost(
        node=str(node.name),
        op_type=node.op_type,
        module=module_of(node),
        macs=_macs(node),
        weight_bytes=sum(map(_bytes, weights)),
        activation_bytes=sum(map(_bytes, [*others, *outputs])),
    )


def _stored(value: ir.Value) -> ir.Value:
    """Return the codes behind a value, or the value itself."""
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear" and producer.inputs[0]:
        return producer.inputs[0]
    return value


def _written(value: ir.Value) -> ir.Value:
    """Return the codes that a value is stored as, if that is all that is done with it."""
    consumers = {use.node for use in value.uses()}
    quantisers = [node for node in consumers if node.op_type == "QuantizeLinear"]
    alone = len(consumers) == len(quantisers) == 1 and not value.is_graph_output()
    return quantisers[0].outputs[0] if alone else value


def _bytes(value: ir.Value) -> int:
    if value.const_value is not None:
        return int(value.const_value.nbytes)
    if value.dtype is None or value.shape is None or not value.shape.is_static():
        return 0
    return -(-_sizes(value)[1] * value.dtype.bitwidth // 8)


def _sizes(value: ir.Value | None) -> tuple[Shape, int]:
    shape = tuple(int(size) for size in value.shape.numpy()) if value and value.shape else ()
    return shape, prod(shape)


def _macs(node: ir.Node) -> int | None:
    rule = _RULES.get(node.op_type)
    if rule is not None:
        around = (*(value for value in node.inputs if value is not None), node.outputs[0])
        if not all(value.shape is not None and value.shape.is_static() for value in around):
            return None
        inputs = [_sizes(value)[0] for value in node.inputs]
        return rule(node, inputs, _sizes(node.outputs[0])[0])
    return None if node.op_type in _UNKNOWN or node.domain else 0


def _conv(node: ir.Node, inputs: Sequence[Shape], output: Shape) -> int:
    # Weights are [out, in / group, *kernel].
    return prod(output) * prod(inputs[1][1:])


def _conv_transpose(node: ir.Node, inputs: Sequence[Shape], output: Shape) -> int:
    # Weights are [in, out / group, *kernel].
    return prod(inputs[0]) * prod(inputs[1][1:])


def _gemm(node: ir.Node, inputs: Sequence[Shape], output: Shape) -> int:
    transposed = node.attributes.get_int("transA", 0)
    return prod(output) * inputs[0][0 if transposed else 1]


def _matmul(node: ir.Node, inputs: Sequence[Shape], output: Shape) -> int:
    return prod(output) * inputs[0][-1]


def _recurrent(gates: int) -> Callable[[ir.Node, Sequence[Shape], Shape], int]:
    def macs(node: ir.Node, inputs: Sequence[Shape], output: Shape) -> int:
        # X is [length, batch, in], W [directions, gates * hidden, in]; layout 1 swaps two of X.
        length, batch, width = inputs[0]
        directions, rows, _ = inputs[1]
        return length * batch * directions * rows * (width + rows // gates)

    return macs


def _attention(node: ir.Node, inputs: Sequence[Shape], output: Shape) -> int | None:
    if len(inputs[0]) != 4:
        return None
    batch, heads, queries, width = inputs[0]
    past = inputs[4][2] if len(inputs) > 4 and inputs[4] else 0
    keys = inputs[1][2] + past
    return batch * heads * queries * keys * (width + inputs[2][3])


_RULES: Final[Mapping[str, Callable[[ir.Node, Sequence[Shape], Shape], int | None]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Attention": _attention,
}
_UNKNOWN: Final = frozenset({"Einsum", "DeformConv", "MatMulInteger", "ConvInteger", "QLinearConv"})

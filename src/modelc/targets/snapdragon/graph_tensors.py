"""The inputs and outputs of a lowered graph, with their encodings, as its binary will have them."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.emit import dims_of
from modelc.targets.snapdragon.binary import Tensor


@dataclass(frozen=True)
class GraphTensors:
    """What a graph takes and gives, in its own order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def tensors_of(model: ir.Model) -> GraphTensors:
    """Return the tensors of a graph of Genie's contract, quantised or float.

    Raises:
        ModelcError: codes cross the boundary, and no node says what they mean.
    """
    return GraphTensors(
        tuple(_tensor(value, _reader(value)) for value in model.graph.inputs),
        tuple(_tensor(value, value.producer()) for value in model.graph.outputs),
    )


def _reader(value: ir.Value) -> ir.Node | None:
    nodes = (use.node for use in value.uses())
    return next((node for node in nodes if node.op_type == "DequantizeLinear"), None)


def _tensor(value: ir.Value, conversion: ir.Node | None) -> Tensor:
    """`conversion` is the node that makes codes of floats, or floats of the codes."""
    assert value.name and value.dtype is not None
    shape = tuple(dim for dim in dims_of(value) if isinstance(dim, int))
    dtype = value.dtype.numpy().name
    if value.dtype in (ir.DataType.FLOAT, ir.DataType.INT32):
        return Tensor(value.name, shape, dtype)
    if conversion is None or conversion.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        raise ModelcError(f"nothing says what the codes of {value.name} mean", where=Where())
    scale, zero_point = (_number(conversion, index) for index in (1, 2))
    return Tensor(value.name, shape, dtype, scale, int(zero_point))


def _number(node: ir.Node, index: int) -> float:
    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    return float(value.const_value.numpy().reshape(()))

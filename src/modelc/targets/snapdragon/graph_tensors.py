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
    if conversion is not None and conversion.op_type in ("QuantizeLinear", "DequantizeLinear"):
        scale, zero_point = (_number(value) for value in (*conversion.inputs, None, None)[1:3])
        if scale is not None and zero_point is not None:
            return Tensor(value.name, shape, dtype, scale, int(zero_point))
    raise ModelcError(f"nothing says what the codes of {value.name} mean", where=Where())


def _number(value: ir.Value | None) -> float | None:
    """Return the number that a value always is, None if there is no such."""
    tensor = value.const_value if value is not None else None
    return float(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None

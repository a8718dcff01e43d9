"""What the inputs of a network's nodes are: weights with their channels, biases, data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.network_encodings import ActivationType, Precision, is_float

_SETTINGS: Final[Mapping[str, frozenset[int]]] = {
    "Clip": frozenset({1, 2}),
    "Resize": frozenset({1, 2}),
    "Upsample": frozenset({1}),
}
"""Float inputs that say how to compute: they stay float."""


_NARROW: Final[Mapping[str, frozenset[int]]] = {
    "BatchNormalization": frozenset({1, 2, 3, 4}),
    "LayerNormalization": frozenset({1}),
    "PRelu": frozenset({1}),
}
"""Constants that HTP takes in 8 bits only, whatever its activations are; LayerNormalization's from
v69 on in 16 as well, but v68 refuses it so."""


@dataclass(frozen=True)
class LinearNode:
    """A convolution or matrix product with a constant.

    Attributes:
        weight: the initialiser that it multiplies by.
        axis: of the weight's output channels; None if it has no single one.
        bias: the initialiser with one number for each channel, or one for all (Gemm), if there is
            one.
    """

    node: ir.Node
    weight: ir.Value
    axis: int | None
    bias: ir.Value | None

    def rows(self, array: np.ndarray) -> np.ndarray:
        """Return a weight as float32 [channels, inputs]; all in one row if there is no axis."""
        if self.axis is None:
            return array.astype(np.float32).reshape(1, -1)
        turned = np.moveaxis(array, self.axis, 0)
        return np.ascontiguousarray(turned.reshape(len(turned), -1), np.float32)

    def unrows(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Undo `rows`, keeping the type."""
        if self.axis is None:
            return rows.reshape(shape)
        turned = (shape[self.axis], *(d for i, d in enumerate(shape) if i != self.axis))
        return np.ascontiguousarray(np.moveaxis(rows.reshape(turned), 0, self.axis))


def linear_of(node: ir.Node) -> LinearNode | None:
    """Return a node as a `LinearNode`, None if it is none or its weight varies."""
    if node.domain not in ("", "ai.onnx") or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    if weight is None or not weight.is_initializer() or not is_float(weight):
        return None
    assert weight.const_value is not None
    rank = len(weight.const_value.shape)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    match node.op_type:
        case "Conv":
            axis: int | None = 0
        case "ConvTranspose":
            # In groups, HTP computes scales by channel wrongly, and says nothing.
            axis = 1 if node.attributes.get_int("group", 1) == 1 else None
        case "MatMul":
            axis, bias = (1 if rank == 2 else None), None
        case "Gemm":
            axis = 0 if node.attributes.get_int("transB", 0) else 1
        case _:
            return None
    return LinearNode(node, weight, axis, bias if _is_bias(bias, node) else None)


def type_of_operand(node: ir.Node, index: int, precision: Precision) -> ActivationType:
    """Return the type in which a node takes one of its `data_inputs`."""
    value, activations = node.inputs[index], precision.activations
    if precision.signed_products and activations == "uint16":
        varies = value is not None and not value.is_initializer()
        if node.op_type == "MatMul" and index == 1 and varies:
            return "int16"
    narrow = index in _NARROW.get(node.op_type, frozenset())
    if (
        narrow
        and activations in ("uint16", "int16")
        and value is not None
        and value.is_initializer()
    ):
        return "uint8"
    return activations


def _is_bias(bias: ir.Value | None, node: ir.Node) -> bool:
    """Whether a value is constant and has a number for each channel, or one for all."""
    if bias is None or not bias.is_initializer():
        return False
    assert bias.const_value is not None
    shape = tuple(bias.const_value.shape.numpy())
    return len(shape) == 1 or (node.op_type == "Gemm" and all(size == 1 for size in shape[:-1]))


def norm_bias(node: ir.Node) -> ir.Value | None:
    """Return the initialiser that a LayerNormalization adds, None if there is none."""
    if node.op_type != "LayerNormalization" or len(node.inputs) < 3:
        return None
    bias = node.inputs[2]
    return bias if bias is not None and bias.is_initializer() else None


def data_inputs(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    """Yield the float inputs that are quantised like activations, with their places: all but the
    weight and bias of a linear node, a norm's bias, and settings."""
    linear = linear_of(node)
    own = {linear.weight, linear.bias} if linear else {norm_bias(node)}
    settings = _SETTINGS.get(node.op_type, frozenset())
    for index, value in enumerate(node.inputs):
        if value is not None and is_float(value) and value not in own and index not in settings:
            yield index, value

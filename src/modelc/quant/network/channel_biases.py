"""Where what is added to the output channels of a linear node lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelc.ir.network_encodings import Precision
from modelc.ir.operands import LinearNode, linear_of


@dataclass(frozen=True)
class ChannelBias:
    """The place of a linear node's bias.

    Attributes:
        adder: the linear node, or the Add behind a MatMul.
        place: of the bias among the adder's inputs, where there may be none yet.
        axis: of the channels in what the adder makes.
        channels: how many there are.
    """

    node: ir.Node
    adder: ir.Node
    place: int
    axis: int
    channels: int

    @property
    def output(self) -> str:
        return str(self.adder.outputs[0].name)

    def read(self) -> np.ndarray:
        """Return what is added to each channel, float32 [channels]."""
        value = self.adder.inputs[self.place] if len(self.adder.inputs) > self.place else None
        if value is None:
            return np.zeros(self.channels, np.float32)
        assert value.const_value is not None
        factor = self.adder.attributes.get_float("beta", 1.0)
        numbers = value.const_value.numpy().astype(np.float32).reshape(-1) * np.float32(factor)
        return np.broadcast_to(numbers, (self.channels,))

    def write(self, graph: ir.Graph, numbers: np.ndarray) -> None:
        """Let the adder add these numbers [channels]; others who read the old ones keep them."""
        name = f"{self.node.name}.corrected_bias"
        value = ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape([self.channels]),
            const_value=ir.Tensor(np.ascontiguousarray(numbers, np.float32), name=name),
        )
        graph.register_initializer(value)
        old = self.adder.inputs[self.place] if len(self.adder.inputs) > self.place else None
        if len(self.adder.inputs) <= self.place:
            self.adder.resize_inputs(self.place + 1)
        self.adder.replace_input_with(self.place, value)
        self.adder.attributes.pop("beta", None)
        if old is not None and not old.uses() and not old.is_graph_output():
            graph.initializers.pop(str(old.name))


def channel_biases(
    model: ir.Model, nodes: Mapping[str, Precision], left: dict[str, str]
) -> Iterator[ChannelBias]:
    """Yield the biases of all linear nodes whose weights get codes; `left` gets the nodes that
    have no place for one, and why.

    Args:
        nodes: node name -> precision.
    """
    for node in model.graph:
        linear, precision = linear_of(node), nodes.get(str(node.name))
        if linear is None or precision is None or precision.activations == "float":
            continue
        found = _added_behind(linear) if node.op_type == "MatMul" else _own(linear)
        if isinstance(found, str):
            left[str(node.name)] = found
        else:
            yield found


def _own(linear: LinearNode) -> ChannelBias | str:
    node = linear.node
    if linear.bias is None and len(node.inputs) > 2 and node.inputs[2] is not None:
        return "what is added to it is no number for each channel"
    shape = _shape(linear.weight)
    match node.op_type:
        case "Conv":
            channels, axis = shape[0], 1
        case "ConvTranspose":
            channels, axis = shape[1] * node.attributes.get_int("group", 1), 1
        case _:
            channels, axis = shape[linear.axis or 0], -1
    return ChannelBias(node, node, 2, axis, channels)


def _added_behind(linear: LinearNode) -> ChannelBias | str:
    """Return the constant of the Add that alone reads a MatMul. There is none in a MatMul itself,
    and an Add of its own would be an operator more to run."""
    product = linear.node.outputs[0]
    channels = _shape(linear.weight)[-1]
    if len(product.uses()) != 1 or product.is_graph_output():
        return "no Add alone reads it"
    ((adder, place),) = product.uses()
    bias = adder.inputs[1 - place] if adder.op_type == "Add" else None
    if bias is None or not bias.is_initializer():
        return "no constant is added to it"
    shape = _shape(bias)
    size = int(np.prod(shape, dtype=np.int64))
    if size != 1 and (size != channels or shape[-1] != channels):
        return "what is added to it is no number for each channel"
    if len(shape) > len(adder.outputs[0].shape or ()):
        return "what is added to it gives it more axes"
    return ChannelBias(linear.node, adder, 1 - place, -1, channels)


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())

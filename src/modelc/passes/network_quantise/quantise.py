"""A static network with QuantizeLinear and DequantizeLinear around everything that is quantised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import ModelcError, Where
from modelc.ir.emit import Scope
from modelc.ir.encodings import Encoding
from modelc.ir.legality import Stage
from modelc.ir.network_encodings import (
    BITS,
    ActivationType,
    NetworkEncodings,
    is_float,
    key,
)
from modelc.ir.operands import LinearNode, data_inputs, linear_of, norm_bias, type_of_operand
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.htp.qdq import dequantise, integer_type, quantise
from modelc.passes.htp.static import scope_in
from modelc.passes.network_quantise.codes import (
    CodedWeight,
    code_weight,
    put_bias,
    put_integers,
    put_weight,
)


@dataclass(frozen=True)
class QuantiseNetwork(Pass):
    """Quantises what `encodings` has a precision for; HTP's compiler fuses the pairs away.

    Every node reads and makes codes of its own type; where two types meet, a pair of its own
    converts, as between integers and float nodes. Weights become integers with one scale for each
    output channel, biases int32, other constants what the nodes that read them want.

    Attributes:
        encodings: of the graph's values and nodes.
        codes_at_boundary: quantised inputs and outputs of the graph are codes; otherwise they stay
            float32, and are quantised inside.
    """

    encodings: NetworkEncodings
    codes_at_boundary: bool = False
    name: ClassVar[str] = "quantise-network"
    before: ClassVar[Stage] = "htp-network"
    after: ClassVar[Stage] = "htp-network-quantised"

    def apply(self, model: ir.Model) -> ir.Model:
        writer = _Writer(model.graph, self.encodings, self.codes_at_boundary)
        nodes = list(model.graph)
        for value in list(model.graph.inputs):
            writer.add_input(value)
        for node in nodes:
            writer.add_node(node)
        writer.finish()
        RemoveUnusedNodesPass()(model)
        return model


class _Writer:
    """Rewrites the nodes in their order; `versions` has every value in each type that it is in."""

    def __init__(self, graph: ir.Graph, encodings: NetworkEncodings, codes: bool) -> None:
        self._graph, self._encodings, self._codes = graph, encodings, codes
        self._own: dict[ir.Value, str] = {}
        self._versions: dict[tuple[ir.Value, str], ir.Value] = {}
        self._weights: dict[tuple[ir.Value, str], tuple[CodedWeight, ir.Value]] = {}
        self._outputs = {value: index for index, value in enumerate(graph.outputs)}
        self._types_of_constants()

    def add_input(self, value: ir.Value) -> None:
        encoding = self._encodings.values.get(str(value.name))
        self._own[value] = encoding.dtype if encoding else "float"
        self._versions[value, "float"] = value
        if encoding is None or not is_float(value):
            return
        uses = list(value.uses())
        if not uses:
            return
        scope = scope_in(self._graph, module_of(uses[0].node))
        name = str(value.name)
        codes = value
        if not self._codes:
            codes = quantise(scope, value, encoding, name)
        back = dequantise(scope, codes, encoding, name)
        self._versions[value, encoding.dtype] = self._versions[value, "float"] = back
        self._graph.insert_before(self._graph[0], scope.sheet.nodes)

    def add_node(self, node: ir.Node) -> None:
        precision = self._encodings.nodes.get(str(node.name))
        wanted: ActivationType = precision.activations if precision else "float"
        linear = linear_of(node)
        scope = scope_in(self._graph, module_of(node))
        for index, value in data_inputs(node):
            operand = type_of_operand(node, index, precision) if precision else wanted
            node.replace_input_with(index, self._version(scope, value, operand))
        if linear and precision and wanted != "float" and precision.weights != "float":
            self._add_weight(scope, linear, wanted)
        if (added := norm_bias(node)) and wanted != "float":
            node.replace_input_with(2, _norm_bias(scope, node, added))
        self._graph.insert_before(node, scope.sheet.nodes)
        for value in node.outputs:
            if is_float(value):
                self._add_output(node, value)

    def finish(self) -> None:
        """Let the graph take codes, if it is to, and give out what its codes stand for, or them,
        under the old names."""
        for value in self._graph.inputs:
            encoding = self._encodings.values.get(str(value.name))
            if self._codes and encoding is not None and is_float(value) and value.uses():
                value.dtype = integer_type(encoding)
        for value, index in self._outputs.items():
            own = self._own.get(value, "float")
            if own == "float" or value.producer() is None:
                continue
            name, back = str(value.name), self._versions[value, own]
            result = back
            if self._codes:
                reader = back.producer()
                assert reader is not None and reader.inputs[0] is not None
                result = reader.inputs[0]
            value.name = f"{name}.float"
            if (maker := value.producer()) and maker.name == name:
                maker.name = value.name
            result.name = name
            self._graph.outputs[index] = result

    def _types_of_constants(self) -> None:
        """A constant has the type of the first quantised node that reads it."""
        for node in self._graph:
            precision = self._encodings.nodes.get(str(node.name))
            if precision is None or precision.activations == "float":
                continue
            for index, value in data_inputs(node):
                if value.is_initializer():
                    wanted = type_of_operand(node, index, precision)
                    self._own.setdefault(value, wanted)

    def _add_output(self, node: ir.Node, value: ir.Value) -> None:
        encoding = self._encodings.values.get(str(value.name))
        self._own[value] = encoding.dtype if encoding else "float"
        self._versions[value, "float"] = value
        if encoding is None:
            return
        scope = scope_in(self._graph, module_of(node))
        name = str(value.name)
        back = dequantise(scope, quantise(scope, value, encoding, name), encoding, name)
        self._versions[value, encoding.dtype] = self._versions[value, "float"] = back
        self._graph.insert_after(node, scope.sheet.nodes)

    def _version(self, scope: Scope, value: ir.Value, wanted: str) -> ir.Value:
        """Return a value in a type, written in front of the node that wants it if need be."""
        if (value, wanted) in self._versions:
            return self._versions[value, wanted]
        if value.is_initializer() and wanted == "float":
            return value
        own = self._own.get(value, "float")
        name = key(value, own, wanted)
        encoding = self._encodings.values.get(name)
        if encoding is None:
            raise ModelcError(
                f"nothing says how {value.name} is encoded in {wanted}",
                where=Where(module=scope.module),
                hint="the encodings are of another graph",
            )
        if value.is_initializer():
            made = _constant(scope, value, encoding, name)
        else:
            before = self._versions[value, "float"]
            made = dequantise(scope, quantise(scope, before, encoding, name), encoding, name)
        self._versions[value, wanted] = made
        return made

    def _add_weight(self, scope: Scope, linear: LinearNode, wanted: str) -> None:
        node, weight = linear.node, linear.weight
        precision = self._encodings.nodes[str(node.name)]
        coded = code_weight(linear, precision, self._encodings.scales.get(str(weight.name)))
        name = f"{weight.name}.of.{node.name}" if len(weight.uses()) > 1 else str(weight.name)
        scale = _scale_of(node.inputs[0])
        made_in = self._encodings.values.get(str(node.outputs[0].name))
        if made_in is not None and BITS[made_in.dtype] > 8:
            coded = coded.computable(scale, made_in.scale)
        if linear.bias is not None:
            assert linear.bias.const_value is not None
            bias = _bias(linear, linear.bias.const_value.numpy())
            coded = coded.widened(bias, scale)
            made = put_bias(scope, bias, coded, scale, f"{linear.bias.name}.of.{node.name}")
            node.replace_input_with(2, made)
            node.attributes.pop("beta", None)
        node.replace_input_with(1, put_weight(scope, coded, name))


def _constant(scope: Scope, value: ir.Value, encoding: Encoding, name: str) -> ir.Value:
    """Return a constant as codes and back; they are made when they are written."""
    tensor = value.const_value
    assert tensor is not None
    dtype = integer_type(encoding)
    codes = ir.LazyTensor(
        lambda: ir.Tensor(encoding.quantise(tensor.numpy()), dtype),
        dtype=dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=f"{name}.codes",
    )
    return dequantise(scope, scope.tensor(codes), encoding, name)


def _scale_of(value: ir.Value | None) -> float:
    """Return the scale of codes that were made floats again."""
    node = value.producer() if value is not None else None
    assert node is not None and node.op_type == "DequantizeLinear"
    scale = node.inputs[1]
    assert scale is not None and scale.const_value is not None
    return float(scale.const_value.numpy())


def _norm_bias(scope: Scope, node: ir.Node, bias: ir.Value) -> ir.Value:
    """Return what a norm adds, int32 with the scale of its input times its weight: the one way
    that every HTP takes."""
    assert bias.const_value is not None
    scale = _scale_of(node.inputs[0]) * _scale_of(node.inputs[1])
    return put_integers(scope, bias.const_value.numpy(), scale, f"{bias.name}.of.{node.name}")


def _bias(linear: LinearNode, numbers: np.ndarray) -> np.ndarray:
    """Return what is added to each channel, float32 [channels]."""
    if linear.node.op_type != "Gemm":
        return numbers
    assert linear.weight.const_value is not None and linear.axis is not None
    channels = int(linear.weight.const_value.shape.numpy()[linear.axis])
    beta = linear.node.attributes.get_float("beta", 1.0)
    return np.broadcast_to(numbers.reshape(-1) * np.float32(beta), (channels,))

"""The static graph with every tensor quantised: integer codes at its boundary, weights as codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.ir.emit import Scope, Sheet, dims_of, new_value
from modelc.ir.encodings import Encoding, IntegerType, from_range
from modelc.ir.legality import Stage
from modelc.ir.packing.int8_channel import ChannelCodec, whole_codes, whole_encoding
from modelc.ir.provenance import canonical_name, module_of, set_canonical_name
from modelc.ir.weights import StoredWeight
from modelc.passes.base import Pass
from modelc.passes.htp.value_encodings import value_encodings


@dataclass(frozen=True)
class Quantise(Pass):
    """Puts QuantizeLinear and DequantizeLinear around every node; HTP's compiler fuses them away.

    Matrices become int8 with a scale per output channel and a zero point of 0 written out; norms,
    biases and constants become uint16. Weights stay lazy: nothing is decoded but the range of the
    embedding's table and of vectors.

    Attributes:
        encodings: of the expanded graph's tensors, by name.
        embedding: integer type of the embedding's table and so of what is looked up.
    """

    encodings: Mapping[str, Encoding]
    embedding: IntegerType = "uint16"
    name: ClassVar[str] = "quantise"
    before: ClassVar[Stage] = "htp"
    after: ClassVar[Stage] = "htp-quantised"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        weights = [
            value for value in graph.initializers.values() if value.dtype == ir.DataType.FLOAT
        ]
        tables = {
            value: _weight_encoding(value, self.embedding)
            for value in weights
            if _readers(value) == {"Gather"}
        }
        chosen = value_encodings(graph, self.encodings, tables)
        nodes = list(graph)
        for value in graph.inputs:
            if value in chosen:
                _dequantise_input(graph, value, chosen[value])
        for value in weights:
            if value in tables:
                _dequantise_whole(graph, value, chosen[value])
            elif _readers(value) == {"MatMul"}:
                _dequantise_channels(graph, value)
            else:
                _dequantise_whole(graph, value, _weight_encoding(value, "uint16"))
        for node in nodes:
            for value in node.outputs:
                _requantise(graph, node, value, chosen[value])
        RemoveUnusedNodesPass()(model)
        return model


def _requantise(graph: ir.Graph, node: ir.Node, value: ir.Value, encoding: Encoding) -> None:
    """Put Quantize and Dequantize behind a node's output; if the graph gives it out, its codes
    take over the name."""
    name = str(value.name)
    scope = _scope(graph, module_of(node))
    numbers = _numbers(scope, name, encoding)
    codes = new_value(f"{name}.codes", dims_of(value), _integer(encoding))
    back = new_value(f"{name}.dequantised", dims_of(value))
    set_canonical_name(codes, canonical_name(value))
    if value.is_graph_output():
        value.name = node.name = f"{name}.float"
        codes.name = name
        graph.outputs[graph.outputs.index(value)] = codes
    value.replace_all_uses_with(back)
    scope.emit_many("QuantizeLinear", [value, *numbers], [codes])
    scope.emit_many("DequantizeLinear", [codes, *numbers], [back])
    graph.insert_after(node, scope.sheet.nodes)


def _dequantise_input(graph: ir.Graph, value: ir.Value, encoding: Encoding) -> None:
    first = _first_reader(graph, value)
    scope = _scope(graph, module_of(first))
    back = new_value(f"{value.name}.dequantised", dims_of(value))
    value.replace_all_uses_with(back)
    value.dtype = _integer(encoding)
    numbers = _numbers(scope, str(value.name), encoding)
    scope.emit_many("DequantizeLinear", [value, *numbers], [back])
    graph.insert_before(first, scope.sheet.nodes)


def _dequantise_whole(graph: ir.Graph, value: ir.Value, encoding: Encoding) -> None:
    name, tensor = str(value.name), value.const_value
    assert tensor is not None
    codes: ir.TensorProtocol
    if isinstance(tensor, StoredWeight):
        codes = whole_codes(tensor.source, encoding, f"{name}.codes")
    else:
        codes = ir.Tensor(encoding.quantise(tensor.numpy()), name=f"{name}.codes")
    scope = _scope(graph, module_of(_first_reader(graph, value)))
    _dequantise(graph, value, scope, [_lazy(scope, codes), *_numbers(scope, name, encoding)])


def _dequantise_channels(graph: ir.Graph, value: ir.Value) -> None:
    name, tensor = str(value.name), value.const_value
    assert isinstance(tensor, StoredWeight) and tensor.source.transposed
    scope = _scope(graph, module_of(_first_reader(graph, value)))
    codec = ChannelCodec(tensor.source)
    codes, scales = (_lazy(scope, lazy) for lazy in codec.tensors(name))
    # Left out, it would mean the same, but HTP's compiler takes the codes for unsigned then.
    zeros = scope.constant(f"{name}.zero_point", np.zeros(codec.channels, np.int8))
    _dequantise(graph, value, scope, [codes, scales, zeros], axis=1)


def _dequantise(
    graph: ir.Graph, value: ir.Value, scope: Scope, inputs: Sequence[ir.Value], **axis: int
) -> None:
    first = _first_reader(graph, value)
    back = new_value(f"{value.name}.dequantised", dims_of(value))
    value.replace_all_uses_with(back)
    scope.emit_many("DequantizeLinear", inputs, [back], **axis)
    graph.insert_before(first, scope.sheet.nodes)


def _weight_encoding(value: ir.Value, dtype: IntegerType) -> Encoding:
    tensor = value.const_value
    assert tensor is not None
    if isinstance(tensor, StoredWeight):
        return whole_encoding(tensor.source, dtype)
    numbers = tensor.numpy()
    return from_range(float(numbers.min()), float(numbers.max()), dtype)


def _numbers(scope: Scope, name: str, encoding: Encoding) -> tuple[ir.Value, ir.Value]:
    """Return the scale and zero point of a tensor as initialisers."""
    zero_point = np.array(encoding.zero_point, encoding.dtype)
    return (
        scope.constant(f"{name}.quantisation.scale", np.array(encoding.scale, np.float32)),
        scope.constant(f"{name}.quantisation.zero_point", zero_point),
    )


def _lazy(scope: Scope, tensor: ir.TensorProtocol) -> ir.Value:
    assert tensor.name
    value = new_value(tensor.name, tensor.shape.numpy(), tensor.dtype)
    value.const_value = tensor
    scope.sheet.initializers[tensor.name] = value
    return value


def _first_reader(graph: ir.Graph, value: ir.Value) -> ir.Node:
    readers = set(value.consumers())
    return next(node for node in graph if node in readers)


def _readers(value: ir.Value) -> set[str]:
    return {node.op_type for node in value.consumers()}


def _scope(graph: ir.Graph, module: str) -> Scope:
    return Scope(module, Sheet(initializers=graph.initializers))


def _integer(encoding: Encoding) -> ir.DataType:
    return ir.DataType[encoding.dtype.upper()]

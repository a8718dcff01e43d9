"""The static graph with every tensor quantised: integer codes at its boundary, weights as codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Final

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.ir.emit import Scope
from modelc.ir.encodings import Encoding
from modelc.ir.legality import Stage
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import TABLE_KINDS
from modelc.ir.provenance import canonical_name, module_of, set_canonical_name
from modelc.passes.base import Pass
from modelc.passes.htp.qdq import dequantise, integer_type, quantise
from modelc.passes.htp.quantised_weights import (
    as_matrix,
    as_whole,
    kind_of,
    table_encoding,
    weight_encoding,
)
from modelc.passes.htp.static import scope_in
from modelc.passes.htp.value_encodings import moved_by, value_encodings

EIGHT_BITS: Final = {"": "w8", "model.embed_tokens": "w16"}


@dataclass(frozen=True)
class Quantise(Pass):
    """Puts QuantizeLinear and DequantizeLinear around every node; HTP's compiler fuses them away.

    Matrices become integers with scales per output channel or block; norms, biases and constants
    become uint16. Weights stay lazy: only the ranges of the embedding's table and of vectors are
    looked up now.

    Attributes:
        encodings: of the expanded graph's tensors, by name.
        weights: module path -> kind of its weight (`ir.packing.kinds`); a module takes the longest
            path that it is or lies in, so parts of a module follow it.
        scales: module path -> scales of its matrix, which count if they are of the matrix's kind;
            others are searched for. `encodings` may have one for the embedding's table.
    """

    encodings: Mapping[str, Encoding]
    weights: Mapping[str, str] = field(default_factory=lambda: EIGHT_BITS)
    scales: Mapping[str, GivenScales] = field(default_factory=dict)
    name: ClassVar[str] = "quantise"
    before: ClassVar[Stage] = "htp"
    after: ClassVar[Stage] = "htp-quantised"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        weights = {
            value: {node.op_type for node in value.consumers()}
            for value in graph.initializers.values()
            if value.dtype == ir.DataType.FLOAT
        }
        kinds = {
            value: kind_of(_module_reading(value), self.weights)
            for value, readers in weights.items()
            if readers in ({"Gather"}, {"MatMul"})
        }
        tables = {
            value: table_encoding(value, TABLE_KINDS[kinds[value]], self.encodings)
            for value, readers in weights.items()
            if readers == {"Gather"}
        }
        chosen = value_encodings(graph, self.encodings, tables)
        nodes = {node: [chosen[value] for value in moved_by(node)] for node in graph}
        for value in graph.inputs:
            if value in chosen:
                _quantise_input(graph, value, chosen[value])
        for value, readers in weights.items():
            if readers == {"MatMul"}:
                given = self.scales.get(_module_reading(value))
                make = partial(as_matrix, value=value, kind=kinds[value], given=given)
            else:
                encoding = chosen.get(value) or weight_encoding(value, "uint16")
                make = partial(as_whole, value=value, encoding=encoding)
            _put_before_readers(graph, value, make)
        for node, moved in nodes.items():
            for value in node.outputs:
                _quantise_output(graph, node, value, chosen[value], next(iter(moved), None))
        RemoveUnusedNodesPass()(model)
        return model


def _quantise_input(graph: ir.Graph, value: ir.Value, encoding: Encoding) -> None:
    value.dtype = integer_type(encoding)
    name = str(value.name)
    _put_before_readers(graph, value, lambda scope: dequantise(scope, value, encoding, name))


def _module_reading(weight: ir.Value) -> str:
    return module_of(next(iter(weight.consumers())))


def _put_before_readers(
    graph: ir.Graph, value: ir.Value, make: Callable[[Scope], ir.Value]
) -> None:
    """Let the nodes that read `value` read what `make` makes of it."""
    uses = list(value.uses())
    readers = {node for node, _ in uses}
    # Most are read once; to look through the graph for each would take a square of its nodes.
    first = uses[0][0] if len(readers) == 1 else next(node for node in graph if node in readers)
    scope = scope_in(graph, module_of(first))
    made = make(scope)
    for reader, index in uses:
        reader.replace_input_with(index, made)
    graph.insert_before(first, scope.sheet.nodes)


def _quantise_output(
    graph: ir.Graph, node: ir.Node, value: ir.Value, encoding: Encoding, moved: Encoding | None
) -> None:
    """Let the nodes that read `value`, an output of `node`, read its codes' float value; if the
    graph gives it out, the codes take over its name.

    `moved` is the encoding of what the node only moves, if it does. A move that also converts
    rounds down on HTP for some shapes, half a step of bias in an 8-bit cache; a conversion of its
    own rounds to nearest.
    """
    name, uses = str(value.name), list(value.uses())
    scope = scope_in(graph, module_of(node))
    result = value
    if moved is not None and moved.dtype != encoding.dtype:
        step = f"{name}.moved"
        result = dequantise(scope, quantise(scope, value, moved, step), moved, step)
    codes = quantise(scope, result, encoding, name)
    back = dequantise(scope, codes, encoding, name)
    set_canonical_name(codes, canonical_name(value))
    for reader, index in uses:
        reader.replace_input_with(index, back)
    if value.is_graph_output():
        value.name = node.name = f"{name}.float"
        codes.name = name
        graph.outputs[graph.outputs.index(value)] = codes
    graph.insert_after(node, scope.sheet.nodes)

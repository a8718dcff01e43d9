"""A graph that takes codes in place of floats, as what runs behind a network that gives codes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from modelc.ir.encodings import Encoding
from modelc.ir.network_encodings import is_float
from modelc.ir.provenance import module_of
from modelc.passes.htp.qdq import dequantise, integer_type
from modelc.passes.htp.static import scope_in


def take_codes(model: ir.Model, encodings: Mapping[str, Encoding]) -> ir.Model:
    """Let those of a graph's float inputs that have an encoding be codes of it, in place: a
    DequantizeLinear reads them. Names and order of the inputs stay."""
    graph = model.graph
    for value in graph.inputs:
        encoding, uses = encodings.get(str(value.name)), list(value.uses())
        if encoding is None or not uses or not is_float(value):
            continue
        scope = scope_in(graph, module_of(uses[0].node))
        back = dequantise(scope, value, encoding, str(value.name))
        for node, index in uses:
            node.replace_input_with(index, back)
        value.dtype = integer_type(encoding)
        graph.insert_before(graph[0], scope.sheet.nodes)
    return model

"""Only the rows that are asked for go through the end of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.errors import ModelcError
from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import scope_at


@dataclass(frozen=True)
class SelectRows(Pass):
    """A new input `logits_rows` int64 [rows]: positions in the call whose logits are wanted.

    After the last attention every position is on its own, so the others are dropped there:
    generation computes one row of the last feed-forward and of the head.
    """

    name: ClassVar[str] = "select_rows"
    before: ClassVar[Stage] = "cpu"
    after: ClassVar[Stage] = "cpu"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        attention = [node for node in graph if node.op_type == "GroupQueryAttention"]
        if not attention:
            raise ModelcError("there is no attention after which rows could be selected")
        last = attention[-1]
        late = _readers(last.outputs[0])
        wanted = new_value("logits_rows", ["rows"], ir.DataType.INT64)
        graph.inputs.insert(1, wanted)
        for value in _crossing(graph, last, late):
            scope = scope_at(graph, last)
            dims = dims_of(value)
            axis = dims.index("sequence")
            dims[axis] = "rows"
            result = new_value(f"{value.name}.selected", dims)
            scope.emit_many("Gather", [value, wanted], [result], axis=axis)
            graph.insert_after(last, scope.sheet.nodes)
            for node, index in list(value.uses()):
                if node in late:
                    node.replace_input_with(index, result)
        for node in late:
            for value in node.outputs:
                value.shape = ir.Shape(["rows" if d == "sequence" else d for d in dims_of(value)])
        return model


def _readers(value: ir.Value) -> dict[ir.Node, None]:
    """Return every node that depends on a value."""
    found: dict[ir.Node, None] = {}
    waiting = [value]
    while waiting:
        for node in waiting.pop().consumers():
            if node not in found:
                found[node] = None
                waiting += node.outputs
    return found


def _crossing(graph: ir.Graph, last: ir.Node, late: dict[ir.Node, None]) -> list[ir.Value]:
    """Return the values of all positions that late nodes read and don't make."""
    made = {value for node in late for value in node.outputs}
    found: dict[ir.Value, None] = {}
    for node in graph:
        if node in late:
            for value in node.inputs:
                if value is not None and value not in made and "sequence" in dims_of(value):
                    found[value] = None
    return list(found)

"""Beside every operator that reads a rounded weight, the same one with the weight as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import onnx_ir as ir

from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import inherit
from modelc.ir.weights import StoredWeight
from modelc.passes.base import Pass
from modelc.passes.htp.static import scope_in

_ROUNDED: Final = re.compile(r"(\.b\d+)?\.rounded$")  # see `dynamic_rounding`


@dataclass(frozen=True)
class AddExact(Pass):
    """`NAME.exact` is what an operator makes of the same rounded inputs without rounding anything
    itself: what is between it and `NAME` is lost here, and what is between it and the float model
    was lost before.

    Attributes:
        exact: the float model's weights, by name.
    """

    exact: Mapping[str, StoredWeight] = field(default_factory=dict)
    name: ClassVar[str] = "add_exact"
    before: ClassVar[Stage] = "simulated"
    after: ClassVar[Stage] = "simulated"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        values = {str(value.name): value for node in graph for value in node.outputs}
        for value in list(graph.initializers.values()):
            exact, weight = self.exact.get(str(value.name)), value.const_value
            if exact is None or not isinstance(weight, StoredWeight):
                continue
            if exact.source == weight.source:
                continue
            scope = scope_in(graph, "")
            original = scope.tensor(StoredWeight(exact.source, f"{value.name}.exact"))
            for node in [use.node for use in value.uses()]:
                _repeat(graph, node, {value: original}, values)
        return model


def _repeat(
    graph: ir.Graph,
    node: ir.Node,
    exact: Mapping[ir.Value, ir.Value],
    values: Mapping[str, ir.Value],
) -> None:
    """Write a node again with what its inputs were before they were rounded for it alone."""
    inputs = []
    for value in node.inputs:
        if value is not None:
            # A token that is rounded by its own largest magnitude is one that others read whole.
            whole = _ROUNDED.sub("", str(value.name))
            value = exact.get(value) or values.get(whole, value)
        inputs.append(value)
    (output,) = node.outputs
    name = f"{str(output.name).removesuffix('.float')}.exact"
    result = new_value(name, dims_of(output))
    attributes = list(node.attributes.values())
    copy = ir.Node(node.domain, node.op_type, inputs, attributes, outputs=[result], name=name)
    inherit([copy], node)
    graph.insert_after(node, copy)

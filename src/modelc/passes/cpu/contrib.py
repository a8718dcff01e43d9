"""ONNX Runtime's own operators, and replacing nodes by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

from modelc.ir.emit import Scope, Sheet
from modelc.ir.provenance import inherit, module_of

MICROSOFT: Final = "com.microsoft"


def import_contrib(model: ir.Model) -> None:
    """Declare that a model uses ONNX Runtime's operators."""
    model.opset_imports[MICROSOFT] = 1


def scope_at(graph: ir.Graph, node: ir.Node) -> Scope:
    """Return an empty scope with a node's module path, its constants in the graph."""
    return Scope(module_of(node), Sheet(initializers=graph.initializers))


def replace(
    graph: ir.Graph,
    old: Sequence[ir.Node],
    scope: Scope,
    values: Sequence[ir.Value],
    replacements: Sequence[ir.Value],
    at: ir.Node | None = None,
) -> None:
    """Put a scope's nodes where `at` is (the last of the old ones if not given), with the modules
    of all old ones. `replacements` take the names of `values`."""
    inherit(scope.sheet.nodes, *old)
    ir.convenience.replace_nodes_and_values(
        graph, at or old[-1], old, scope.sheet.nodes, values, replacements
    )


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the node that reads a value, if there is exactly one and no graph output."""
    if value.is_graph_output() or len(value.uses()) != 1:
        return None
    return next(iter(value.consumers()))


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Return the node that makes a value, if it is an `op_type`."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type else None

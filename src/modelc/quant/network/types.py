"""Which type every value of a network gets, once its nodes have their precisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import onnx_ir as ir

from modelc.ir.network_encodings import BITS, ActivationType, Precision, is_float
from modelc.quant.network.moves import moved_by


def resolve_types(
    graph: ir.Graph, nodes: Mapping[str, Precision]
) -> tuple[dict[ir.Value, ActivationType], dict[str, Precision]]:
    """Return the type of every float value, constants apart, and the nodes' precisions.

    A node that only moves values has the widest type of these, whatever was wanted of it: moving
    then never rounds. A graph input has the type of the first node that computes with it.

    Args:
        nodes: what is wanted of each, by name.
    """
    types = {value: _wanted(value, nodes) for value in graph.inputs if is_float(value)}
    resolved = dict(nodes)
    for node in graph:
        if str(node.name) not in nodes:
            continue
        precision = nodes[str(node.name)]
        moved = [types[value] for value in moved_by(node) if value in types]
        if moved:
            precision = replace(precision, activations=max(moved, key=BITS.__getitem__))
        resolved[str(node.name)] = precision
        types.update((v, precision.activations) for v in node.outputs if is_float(v))
    return types, resolved


def _wanted(value: ir.Value, nodes: Mapping[str, Precision]) -> ActivationType:
    """Return the type that those want who compute with a value, straight or moved."""
    for node in value.consumers():
        if value in moved_by(node):
            found = [_wanted(made, nodes) for made in node.outputs if made.consumers()]
            if found:
                return found[0]
        elif str(node.name) in nodes:
            return nodes[str(node.name)].activations
    for node in value.consumers():
        if str(node.name) in nodes:
            return nodes[str(node.name)].activations
    return "float"

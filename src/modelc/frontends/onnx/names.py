"""Names: every node and every value gets one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def make_unique(model: ir.Model) -> None:
    """Name what has no name, and rename what shares one. Inputs, outputs and initialisers of the
    network keep theirs."""
    fixed = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    taken = {str(value.name) for value in fixed}
    kept = set(map(id, fixed))
    for value in _values(model):
        if id(value) in kept or value.name == "":  # "": an output that is left out
            continue
        wanted = value.name or "value"
        name = _free(wanted, taken)
        taken.add(name)
        value.name = name
    names: set[str] = set()
    for node in model.graph.all_nodes():
        first = next((str(value.name) for value in node.outputs if value.name), node.op_type)
        node.name = _free(node.name or first, names)
        names.add(node.name)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in (model.graph, *model.graph.subgraphs()):
        if graph is not model.graph:
            yield from graph.inputs
            yield from graph.initializers.values()
        for node in graph:
            yield from node.outputs


def _free(name: str, taken: set[str]) -> str:
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    return chosen

"""Some nodes of a graph as a model of their own, which shares values with the others by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir


def subgraph(model: ir.Model, nodes: Sequence[ir.Node], name: str) -> ir.Model:
    """Return `nodes`, in their order, as a model; weights and the local functions that nodes call
    are shared, `model` stays as it is.

    Inputs are the values that other nodes make, as they are read, and then inputs of the graph;
    outputs are the values that other nodes read, as they are made, and then outputs of the graph,
    both in the graph's order.
    """
    graph, inside = model.graph, set(nodes)
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    outer = [value for value in read if value.producer() not in inside]
    made = dict.fromkeys(value for node in nodes for value in node.outputs)
    leaving = [value for value in made if any(user not in inside for user in value.consumers())]
    view = ir.GraphView(
        _ordered((value for value in outer if not value.is_initializer()), graph.inputs),
        _ordered([*leaving, *(v for v in graph.outputs if v in made)], graph.outputs),
        nodes=nodes,
        initializers=[value for value in outer if value.is_initializer()],
        opset_imports=model.opset_imports,
        name=name,
    )
    copy = view.clone()
    for value in [*copy.inputs, *(made for node in copy for made in node.outputs)]:
        if value.dtype is not None:  # a clone shares it: set in one part, it would be set in all
            value.type = ir.TensorType(value.dtype)
    called = {node.op_identifier() for node in nodes}
    return ir.Model(
        copy,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        functions=[body for name, body in model.functions.items() if name in called],
    )


def _ordered(values: Iterable[ir.Value], boundary: Sequence[ir.Value]) -> list[ir.Value]:
    """Return values once each: the others first, then those of a graph's boundary in its order."""
    place = {value: index for index, value in enumerate(boundary)}
    return sorted(dict.fromkeys(values), key=lambda value: place.get(value, -1))

"""Some nodes of a graph as a model of their own, which shares values with the others by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir


def subgraph(model: ir.Model, nodes: Sequence[ir.Node], name: str) -> ir.Model:
    """Return `nodes`, in their order, as a model; weights and the local functions that nodes call
    are shared, `model` stays as it is.

    Inputs are the values that other nodes make, as they are read (in graphs inside of nodes as
    well), and then inputs of the graph;
    outputs are the values that other nodes read, as they are made, and then outputs of the graph,
    both in the graph's order.
    """
    graph = model.graph
    inside = {*nodes, *(n for node in nodes for g in graphs_of(node) for n in g.all_nodes())}
    read = dict.fromkeys(value for node in nodes for value in values_read(node))
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
    return copy_of(view, model)


def copy_of(view: ir.GraphView, model: ir.Model) -> ir.Model:
    """Return what a view shows of `model` as a model of its own."""
    copy = view.clone()
    for value in [*copy.inputs, *(made for node in copy for made in node.outputs)]:
        if value.dtype is not None:  # a clone shares it: set in one part, it would be set in all
            value.type = ir.TensorType(value.dtype)
    called = {node.op_identifier() for node in copy}
    return ir.Model(
        copy,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        functions=[body for name, body in model.functions.items() if name in called],
    )


def graphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs inside of a node: the branches of an If, the body of a Loop."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def values_read(node: ir.Node) -> Iterator[ir.Value]:
    """Yield what a node reads: its inputs, and what graphs inside of it take from around it."""
    yield from (value for value in node.inputs if value is not None)
    for graph in graphs_of(node):
        own = {*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs)}
        inner = (value for n in graph for value in values_read(n))
        yield from (value for value in (*inner, *graph.outputs) if value not in own)


def _ordered(values: Iterable[ir.Value], boundary: Sequence[ir.Value]) -> list[ir.Value]:
    """Return values once each: the others first, then those of a graph's boundary in its order."""
    place = {value: index for index, value in enumerate(boundary)}
    return sorted(dict.fromkeys(values), key=lambda value: place.get(value, -1))

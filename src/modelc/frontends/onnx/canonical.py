"""From the graph of a file to the canonical one: opset 23, flat, every size known.

One walk in the graph's order does it all: when a node's turn comes, what it reads is in opset 23
already and has its sizes, so that old operators, shape computations and branches can be settled
where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from modelc.frontends.onnx.branches import CONTROL, take_branch
from modelc.frontends.onnx.definitions import check_node, schema_of
from modelc.frontends.onnx.draft import OPSET, Draft, Rewrite, note_type, sizes_of
from modelc.frontends.onnx.fold import fold
from modelc.frontends.onnx.infer import infer
from modelc.frontends.onnx.loops import unroll
from modelc.frontends.onnx.opsets.table import adapter_of

Size = int | ir.SymbolicDim | None


def make_canonical(graph: ir.Graph, draft: Draft) -> None:
    """Bring a graph and those inside of it to opset 23 and to sizes that are known.

    Control flow stays where its way depends on data.

    Raises:
        BadInput: names the node that can't be had, and its module.
    """
    for node in graph:
        if node.domain == "ai.onnx":
            node.domain = ""
        check_node(node, draft)
        if node.domain == "" and _renewed(node, graph, draft):
            continue
        if node.domain == "" and node.op_type == "Constant" and _stored(node, graph, draft):
            continue
        if node.domain == "" and node.op_type == "If" and take_branch(node, graph, draft):
            continue
        if node.domain == "" and node.op_type in ("Loop", "Scan") and unroll(node, graph, draft):
            continue
        inner = [g for attribute in node.attributes.values() for g in _graphs(attribute)]
        for subgraph in inner:
            make_canonical(subgraph, draft)
        if inner:
            _join_branches(node)
            continue
        infer(node, draft)
        results = fold(node, draft)
        if results is not None:
            _replace_by_constants(node, graph, results, draft)


def _renewed(node: ir.Node, graph: ir.Graph, draft: Draft) -> bool:
    """Replace a node of another opset by nodes of 23; tell whether that was necessary."""
    opset = node.version if node.version is not None else OPSET
    adapter = adapter_of(node.op_type, opset)
    rewrite = Rewrite(draft, node)
    outputs = adapter(node, rewrite) if adapter is not None else None
    if outputs is None:
        if opset > OPSET:
            _check_newer(node, opset, draft)
        node.version = OPSET
        return False
    for new in rewrite.nodes:
        new.metadata_props.update(node.metadata_props)
        new.name = node.name
    old = list(node.outputs)[: len(outputs)]
    for value in (v for new in rewrite.nodes for v in new.outputs if v not in outputs):
        value.name = draft.unique(f"{old[0].name}.{rewrite.nodes[0].op_type}")
    ir.convenience.replace_nodes_and_values(graph, node, [node], rewrite.nodes, old, outputs)
    return True


def _check_newer(node: ir.Node, opset: int, draft: Draft) -> None:
    """Hold a node of a newer opset against what 23 knows, and drop what says only what 23 does.

    Raises:
        BadInput: it is more than that.
    """
    old, new = (schema_of(node.op_type, "", version) for version in (OPSET, opset))
    if old is not None and len(node.inputs) <= old.max_input:
        extra = [name for name in node.attributes if name not in old.attributes]
        if all(node.attributes[name].value == _default(new, name) for name in extra):
            for name in extra:
                del node.attributes[name]
            return
    raise draft.refuse(
        node, f"of opset {opset} is more than opset {OPSET} has", f"export with opset {OPSET}"
    )


def _default(schema: onnx.defs.OpSchema | None, name: str) -> object:
    assert schema is not None
    attribute = schema.attributes[name].default_value
    return ir.serde.deserialize_attribute(attribute).value if attribute.name else None


def _stored(node: ir.Node, graph: ir.Graph, draft: Draft) -> bool:
    """Make an initialiser of a Constant, unless it is a result of the network."""
    (output,) = node.outputs
    tensor = ir.convenience.get_const_tensor(output)
    if tensor is None:
        raise draft.refuse(node, "holds nothing", "export it again")
    note_type(output, tensor)
    if output.is_graph_output():
        return False
    draft.release(output)
    output.replace_all_uses_with(draft.store(tensor, str(output.name)))
    graph.remove(node, safe=True)
    return True


def _replace_by_constants(
    node: ir.Node, graph: ir.Graph, results: Sequence[np.ndarray], draft: Draft
) -> None:
    stays = any(output.is_graph_output() for output in node.outputs)
    for output, array in zip(node.outputs, results, strict=True):
        tensor = ir.tensor(array)
        note_type(output, tensor)
        if not stays:
            draft.release(output)
        if output.uses():
            output.replace_all_uses_with(draft.store(tensor, str(output.name)))
    if not stays:
        graph.remove(node, safe=True)


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.is_ref():
        return ()
    if attribute.type == ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return tuple(attribute.as_graphs()) if attribute.type == ir.AttributeType.GRAPHS else ()


def _join_branches(node: ir.Node) -> None:
    """An If gives what its branches agree on, whichever is taken; where they leave a size open,
    it is what the file says."""
    if node.op_type != "If":
        return
    branches = [graph for a in node.attributes.values() for graph in _graphs(a)]
    for output, *inner in zip(node.outputs, *(branch.outputs for branch in branches), strict=True):
        output.type = inner[0].type
        shapes = [value.shape for value in inner]
        first = shapes[0]
        if first is None or any(s is None or s.rank() != first.rank() for s in shapes):
            if output.shape is not None and output.shape.is_static():
                output.shape = None
            continue
        told = output.shape if output.shape and output.shape.rank() == first.rank() else first
        output.shape = ir.Shape(
            [_agreed(sizes, known) for *sizes, known in zip(*shapes, told, strict=True)]
        )


def _agreed(sizes: Sequence[Size], told: Size) -> Size:
    """Return the size that all branches have, else the name that the file has for it."""
    if isinstance(sizes[0], int) and all(size == sizes[0] for size in sizes):
        return sizes[0]
    return None if isinstance(told, int) else told


def unresolved(model: ir.Model) -> tuple[ir.Node, ...]:
    """Return the nodes whose results have no sizes before the network runs, because they depend on
    data: control flow, and operators such as NonZero. Only the first ones, not what reads them."""
    nodes = [node for node in model.graph if not all(map(_is_settled, node.outputs))]
    open_values = {value for node in nodes for value in node.outputs}
    return tuple(
        node
        for node in model.graph
        if node.op_type in CONTROL
        or (node in nodes and not any(value in open_values for value in node.inputs))
    )


def _is_settled(value: ir.Value) -> bool:
    return value.name == "" or (value.type is not None and sizes_of(value) is not None)

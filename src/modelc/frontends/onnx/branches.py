"""Control flow whose way is known before the network runs."""

from __future__ import annotations

import onnx_ir as ir

from modelc.frontends.onnx.draft import Draft
from modelc.frontends.onnx.modules import CALL, path_of

CONTROL: frozenset[str] = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def take_branch(node: ir.Node, graph: ir.Graph | ir.Function, draft: Draft) -> bool:
    """Put the branch that an If takes in its place; tell whether that is known."""
    condition = draft.known(node.inputs[0])
    if condition is None or condition.size != 1:
        return False
    branch = node.attributes["then_branch" if condition.reshape(())[()] else "else_branch"]
    body = branch.as_graph()
    results = list(body.outputs)
    body.outputs.clear()
    for name, value in body.initializers.items():
        assert value.const_value is not None  # it was read from a file
        draft.release(value)
        stored = draft.store(value.const_value, name)
        value.replace_all_uses_with(stored)
        results = [stored if result is value else result for result in results]
    nodes = list(body)
    body.remove(nodes)
    for inner in nodes:  # whose names say their modules in full, or nothing
        inner.metadata_props.setdefault(CALL, path_of(node))
    for index, (old, new) in enumerate(zip(node.outputs, list(results), strict=True)):
        if new.producer() not in nodes:  # a weight keeps its name, and the output its own
            copy = ir.Node("", "Identity", [new], num_outputs=1, version=node.version)
            copy.metadata_props.update(node.metadata_props)
            nodes.append(copy)
            new = copy.outputs[0]
        results[index] = new
        new.name = old.name
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, node.outputs, results)
    return True

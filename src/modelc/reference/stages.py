"""A network run on several feeds together, from node to node: what one of these makes of all feeds
can be looked at, and changed, before anything reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from modelc.ir.subgraph import subgraph, values_read
from modelc.reference.network import Feed, NetworkReference


def run_in_stages(
    model: ir.Model, ends: Sequence[ir.Node], feeds: Sequence[Feed]
) -> Iterator[tuple[ir.Node, list[np.ndarray]]]:
    """Yield each of `ends` with its first output for every feed.

    The arrays are those that later nodes read, so writing into them changes what follows. Nodes
    behind the last end are not run. `held_bytes` says what is in memory between two ends.

    Args:
        model: static; stays as it is.
        ends: nodes of its graph, in the graph's order.
    """
    last = _last_reads(model, ends)
    held: list[dict[str, np.ndarray]] = [dict(feed) for feed in feeds]
    for index, nodes in enumerate(_stages(model, ends)):
        end = nodes[-1]
        part = NetworkReference(subgraph(model, nodes, f"{model.graph.name}.{end.name}"))
        name = str(end.outputs[0].name)
        made = []
        for tensors in held:
            tensors |= part.run(tensors)
            made.append(tensors[name])
        yield end, made
        for tensors in held:
            for gone in [key for key in tensors if last.get(key, -1) <= index]:
                del tensors[gone]


def held_bytes(model: ir.Model, ends: Sequence[ir.Node]) -> int:
    """Return the most bytes of tensors that one feed keeps between two of `ends`, as far as sizes
    are known."""
    last = _last_reads(model, ends)
    held = {str(value.name): _nbytes(value) for value in model.graph.inputs}
    most = sum(held.values())
    for index, nodes in enumerate(_stages(model, ends)):
        made = {str(value.name): _nbytes(value) for node in nodes for value in node.outputs}
        held |= {name: size for name, size in made.items() if last.get(name, -1) > index}
        most = max(most, sum(held.values()) + made[str(nodes[-1].outputs[0].name)])
        held = {name: size for name, size in held.items() if last.get(name, -1) > index}
    return most


def _stages(model: ir.Model, ends: Sequence[ir.Node]) -> Iterator[list[ir.Node]]:
    stops, nodes = set(ends), list[ir.Node]()
    for node in model.graph:
        nodes.append(node)
        if node in stops:
            yield nodes
            nodes = []


def _last_reads(model: ir.Model, ends: Sequence[ir.Node]) -> dict[str, int]:
    """Return the index of the last stage that reads each tensor."""
    return {
        str(value.name): index
        for index, nodes in enumerate(_stages(model, ends))
        for node in nodes
        for value in values_read(node)
    }


def _nbytes(value: ir.Value) -> int:
    if value.shape is None or value.dtype is None or not value.shape.is_static():
        return 0
    return int(np.prod(value.shape.numpy(), dtype=np.int64) * max(value.dtype.itemsize, 1))

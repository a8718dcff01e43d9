"""The tail of a network: from what gives sizes that depend on the inputs' numbers on, as the boxes
that a detector keeps.

What compiles static graphs takes the head, all before it; the tail is for a CPU. What selects for
the tail alone (a TopK, a comparison) is part of it: the scores that it selects by can be held
against the float model's, but not what it selects, where two of them are close. So is what only
gives a tensor other sizes for the tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from modelc.errors import BadInput, Where
from modelc.ir.provenance import module_of
from modelc.ir.subgraph import copy_of, subgraph, values_read

OPEN: Final = "the size of its result depends on the inputs' numbers"
BEHIND: Final = "it reads what depends on such a size"
ALONE: Final = "only what has such sizes needs it"

SHOWN: Final = 6
"""Operators that an error names."""

_SELECTING: Final = frozenset(
    {
        "And", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
        "Not", "Or", "TopK", "Xor",
    }
)  # fmt: skip
_RESHAPING: Final = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
# What is too much work to be left to a CPU for the sake of an operator before it.
_HEAVY: Final = frozenset(
    {
        "Attention", "Conv", "ConvTranspose", "DeformConv", "Einsum", "GRU", "Gemm", "LSTM",
        "MatMul", "RNN", "RoiAlign",
    }
)  # fmt: skip


@dataclass(frozen=True)
class TailNode:
    """A node of the tail: why it is there is OPEN, BEHIND or ALONE."""

    name: str
    op_type: str
    module: str
    why: str


@dataclass(frozen=True, eq=False)
class Cut:
    """A network in two.

    Attributes:
        head: every size is a number; it takes the network's inputs, and gives those of its outputs
            that it makes, then `crossing`.
        tail: it takes `crossing`, inputs and outputs of the network, and gives the other outputs.
        crossing: what the tail reads of the head that is no output of the network.
        nodes: of the tail.
    """

    head: ir.Model
    tail: ir.Model
    crossing: tuple[str, ...]
    nodes: tuple[TailNode, ...]


def cut_tail(model: ir.Model) -> Cut | None:
    """Cut a canonical network before its tail; None if it has none. `model` stays as it is.

    Raises:
        BadInput: a user's own operator gives sizes that nothing says.
    """
    reasons = _reasons(model.graph)
    if not reasons:
        return None
    nodes = [node for node in model.graph if node in reasons]
    tail = subgraph(model, nodes, f"{model.graph.name or 'network'}.tail")
    read = dict.fromkeys(value for node in nodes for value in values_read(node))
    crossing = [
        value
        for value in read
        if value.producer() is not None
        and value.producer() not in reasons
        and not value.is_graph_output()
    ]
    return Cut(
        _without(model, nodes, crossing),
        tail,
        tuple(str(value.name) for value in crossing),
        tuple(
            TailNode(str(node.name), node.op_type, module_of(node), reasons[node]) for node in nodes
        ),
    )


def check_cut(cut: Cut, allowed: bool) -> None:
    """Check what is left of a network for HTP.

    Raises:
        BadInput: nothing; or the tail is not `allowed` to go to the CPU.
    """
    first = [node for node in cut.nodes if node.why == OPEN]
    names = list(dict.fromkeys(f"{node.op_type} in {node.module}" for node in first))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    behind = ", ".join(names[:SHOWN]) + more
    where = Where(module=first[0].module)
    left = cut.head.graph.num_nodes()
    if not left:
        raise BadInput(
            f"sizes depend on the inputs' numbers from the start on, behind {behind}: that leaves "
            "nothing for HTP",
            where=where,
            hint="--target cpu runs it",
        )
    if not allowed:
        raise BadInput(
            f"sizes depend on the inputs' numbers, behind {behind}, which HTP doesn't take: "
            f"{len(cut.nodes)} of {left + len(cut.nodes)} operators",
            where=where,
            hint="--allow-cpu-fallback leaves these to the CPU, as a part of the bundle; or end "
            f"the model before {first[0].op_type} and run the rest yourself",
        )


def join_tail(head: ir.Model, tail: ir.Model, outputs: Sequence[str]) -> ir.Model:
    """Put a tail behind a head again, whatever passes have made of that.

    Args:
        outputs: names of what the whole gives, in order.
    """
    joined, rest = head.clone(), tail.clone().graph
    graph = joined.graph
    made = {str(value.name): value for value in graph.outputs}
    made |= {str(value.name): value for value in graph.inputs}
    for value in list(rest.inputs):
        value.replace_all_uses_with(made[str(value.name)])
    for name, value in list(rest.initializers.items()):
        rest.initializers.pop(name)
        if name in graph.initializers:
            value.replace_all_uses_with(graph.initializers[name])
        else:
            graph.register_initializer(value)
    made |= {str(value.name): value for value in rest.outputs}
    rest.outputs.clear()
    nodes = list(rest)
    rest.remove(nodes)
    graph.extend(nodes)
    graph.outputs[:] = [made[name] for name in outputs]
    return joined


def _reasons(graph: ir.Graph) -> dict[ir.Node, str]:
    """Return why each node of the tail is in it."""
    reasons: dict[ir.Node, str] = {}
    for node in graph:
        if any(value.producer() in reasons for value in values_read(node)):
            reasons[node] = BEHIND
        elif not all(map(_is_settled, node.outputs)):
            if node.domain:
                raise BadInput(
                    f"nothing says which sizes {node.domain}.{node.op_type} gives",
                    where=Where(module=module_of(node)),
                    hint="write them into the model's value_info",
                )
            reasons[node] = OPEN
    return reasons | _for_tail_alone(graph, reasons) if reasons else reasons


def _for_tail_alone(graph: ir.Graph, tail: dict[ir.Node, str]) -> dict[ir.Node, str]:
    """Return what else goes to the tail: what selects for it alone, with what reads that, and what
    reshapes for it alone."""
    readers: dict[ir.Node, list[ir.Node]] = {node: [] for node in graph}
    for node in graph:
        for value in values_read(node):
            if (producer := value.producer()) is not None and producer in readers:
                readers[producer].append(node)
    light: set[ir.Node] = set()  # nothing but the tail needs them
    for node in reversed(list(graph)):
        given = any(value.is_graph_output() for value in node.outputs)
        heavy = node.op_type in _HEAVY or node.domain != ""
        free = node not in tail and not given and not heavy
        if free and all(reader in tail or reader in light for reader in readers[node]):
            light.add(node)
    found: dict[ir.Node, str] = {}
    for node in graph:
        if node in light and (
            node.op_type in _SELECTING
            or any(value.producer() in found for value in values_read(node))
        ):
            found[node] = ALONE
    for node in reversed(list(graph)):
        alone = all(reader in tail or reader in found for reader in readers[node])
        if alone and node in light and node.op_type in _RESHAPING:
            found[node] = ALONE
    return found


def _is_settled(value: ir.Value) -> bool:
    known = value.shape is not None and value.shape.is_static()
    return value.name == "" or (isinstance(value.type, ir.TensorType) and known)


def _without(model: ir.Model, nodes: Sequence[ir.Node], crossing: Sequence[ir.Value]) -> ir.Model:
    graph, gone = model.graph, set(nodes)
    kept = [node for node in graph if node not in gone]
    outputs = [value for value in graph.outputs if value.producer() not in gone]
    read = dict.fromkeys([*(v for node in kept for v in values_read(node)), *outputs])
    view = ir.GraphView(
        graph.inputs,
        [*outputs, *crossing],
        nodes=kept,
        initializers=[value for value in read if value.is_initializer()],
        opset_imports=model.opset_imports,
        name=f"{graph.name or 'network'}.head",
    )
    return copy_of(view, model)

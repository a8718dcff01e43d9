"""Local functions written out where they are called."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Final

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from modelc.errors import BadInput, Where
from modelc.frontends.onnx.modules import CALL, SCOPES, called
from modelc.frontends.onnx.sound import AGAIN

MOST_NODES: Final = 1_000_000
"""Nodes of the largest network that is taken for a real one."""

Name = tuple[str, str, str]


def check_calls(proto: onnx.ModelProto, where: Where) -> None:
    """Check that functions don't call themselves, and that all calls together stay in proportion:
    functions that call each other twice grow without bound in a small file.

    Raises:
        BadInput: it isn't so.
    """
    bodies = {(f.domain, f.name, f.overload): f.node for f in proto.functions}
    calls = {name: _calls(nodes) for name, nodes in bodies.items()}
    try:
        order = list(TopologicalSorter({n: set(c) & set(calls) for n, c in calls.items()})
                     .static_order())  # fmt: skip
    except CycleError as error:
        raise BadInput(
            "a function calls itself", where=where, hint="export it without recursion"
        ) from error
    sizes: dict[Name, int] = {}
    for name in order:
        sizes[name] = _size(calls[name], sizes)
    if _size(_calls(proto.graph.node), sizes) > MOST_NODES:
        raise BadInput(
            f"with its functions written out it has more than {MOST_NODES} nodes",
            where=where,
            hint="is it a network? what exported it must export it again",
        )


def inline_functions(model: ir.Model, where: Where) -> None:
    """Write every function out, outermost calls first, so that each node knows its calls' path.

    The nodes' opsets must be noted in their `version`, as functions may have their own.

    Raises:
        BadInput: a call doesn't fit its function.
    """
    for function in model.functions.values():
        model.graph.opset_imports.update(
            {d: v for d, v in function.opset_imports.items() if d not in model.graph.opset_imports}
        )
        function.opset_imports.update(model.graph.opset_imports)
    while model.functions:
        inner = {node.op_identifier() for f in model.functions.values() for node in f.all_nodes()}
        outermost = {name for name in model.functions if name not in inner}
        for node in model.graph.all_nodes():
            if node.op_identifier() in outermost:
                node.metadata_props[CALL] = called(node)
                node.metadata_props.pop(SCOPES, None)  # else the body's nodes would inherit it
        try:
            InlinePass(criteria=partial(_is_one_of, outermost))(model)
        except (ir.passes.PassError, ValueError, RuntimeError) as error:
            raise BadInput(
                "a call doesn't fit the function that it calls", where=where, hint=AGAIN
            ) from error
        for name in outermost & set(model.functions):  # nothing calls it
            del model.functions[name]


def _is_one_of(names: set[Name], function: ir.Function) -> bool:
    return function.identifier() in names


def _calls(nodes: object) -> Mapping[Name, int]:
    """Count the operators in nodes, in graphs inside of them as well."""
    counts: dict[Name, int] = {}
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():  # type: ignore[attr-defined]
            key = (node.domain, node.op_type, node.overload)
            counts[key] = counts.get(key, 0) + 1
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g.node)
                waiting.extend(graph.node for graph in attribute.graphs)
    return counts


def _size(calls: Mapping[Name, int], sizes: Mapping[Name, int]) -> int:
    return sum(count * sizes.get(name, 1) for name, count in calls.items())

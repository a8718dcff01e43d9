"""Multi-head attention as single-head attentions: a branch of plain matrices for every head.

HTP keeps one head's scores on chip, where those of all heads together spill to memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.ir import genie
from modelc.ir.emit import Scope, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import canonical_name, module_of, set_canonical_name
from modelc.passes.base import Pass
from modelc.passes.htp.head_branch import HeadBranch
from modelc.passes.htp.static import reshape, scope_in, sizes_of

_ATTENTION: Final = re.compile(r"(model\.layers\.(\d+)\.self_attn)(?:\.|$)")


@dataclass(frozen=True)
class MhaToSha(Pass):
    """Every query head gets its own projection, rotation, scores, softmax and context; every key
    head its own projections and rotation, read by the query heads that share it.

    The KV cache stays one tensor per layer, taken apart and joined here, and contexts are joined
    before `o_proj`. What is made of a tensor for one head has its canonical name, and so its
    encoding. Weights are sliced where they lie.
    """

    name: ClassVar[str] = "mha_to_sha"
    before: ClassVar[Stage] = "htp"
    after: ClassVar[Stage] = "htp"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        layers: dict[tuple[str, int], list[ir.Node]] = {}
        for node in graph:
            if found := _ATTENTION.match(module_of(node)):
                layers.setdefault((found[1], int(found[2])), []).append(node)
        boundary = {str(value.name): value for value in [*graph.inputs, *graph.outputs]}
        for (module, layer), nodes in layers.items():
            attention = _Attention.of(module, layer, nodes, boundary)
            for value in _split(attention, scope_in(graph, module)):
                boundary[str(value.name)] = value
        graph.outputs[:] = [boundary[str(value.name)] for value in graph.outputs]
        RemoveUnusedNodesPass()(model)
        return model


@dataclass(frozen=True)
class _Attention:
    """A layer's attention of all heads.

    Attributes:
        x: what is projected.
        past, new: keys and values, as they are cached.
        for_keys: the nodes that make new and whole keys and values.
        for_queries: those from the queries' projection to the contexts.
        context: what attention gives, read by `merge` alone.
        merge: the node that puts the heads of the context beside each other for `o_proj`.
        groups: the query heads of each key head.
        width: head_dim.
    """

    x: ir.Value
    past: tuple[ir.Value, ...]
    new: tuple[ir.Value, ...]
    for_keys: Sequence[ir.Node]
    for_queries: Sequence[ir.Node]
    context: ir.Value
    merge: ir.Node
    groups: Sequence[range]
    width: int

    @classmethod
    def of(
        cls, module: str, layer: int, nodes: Sequence[ir.Node], boundary: Mapping[str, ir.Value]
    ) -> _Attention:
        by_output = {str(value.name): node for node in nodes for value in node.outputs}
        merge = by_output[f"{module}.context.merged"]
        queries = next(node for node in nodes if module_of(node) == f"{module}.q_proj")
        past, new = (
            tuple(boundary[genie.cache(kind, layer, direction)] for kind in ("key", "value"))
            for direction in ("in", "out")
        )
        kv_heads, _, width, _ = sizes_of(new[0])
        group = sizes_of(queries.outputs[0])[-1] // width // kv_heads
        x, context = queries.inputs[0], merge.inputs[0]
        assert x is not None and context is not None
        inside = nodes[: nodes.index(merge)]
        from_queries = _reached_from(queries, inside)
        return cls(
            x,
            past,
            new,
            [node for node in inside if node not in from_queries],
            [node for node in inside if node in from_queries],
            context,
            merge,
            [range(first, first + group) for first in range(0, kv_heads * group, group)],
            width,
        )


def _split(attention: _Attention, scope: Scope) -> list[ir.Value]:
    """Write an attention head by head; return its new keys and values, joined again."""
    x, merge = attention.x, attention.merge
    alike = {x: reshape(scope, x, [1, *sizes_of(x)], "input")}
    set_canonical_name(alike[x], canonical_name(x))
    past = [_take_apart(scope, value) for value in attention.past]
    new: list[list[ir.Value]] = []
    contexts: list[ir.Value] = []
    for key_head, group in enumerate(attention.groups):
        parts = {whole: heads[key_head] for whole, heads in zip(attention.past, past, strict=True)}
        keys = HeadBranch(scope, key_head, attention.width, alike | parts)
        keys.write(attention.for_keys)
        new.append([keys.values[value] for value in attention.new])
        for head in group:
            queries = HeadBranch(scope, head, attention.width, dict(keys.values))
            queries.write(attention.for_queries)
            contexts.append(queries.values[attention.context])
    cached = [
        _join(scope, parts, whole, str(whole.name), axis=0)
        for whole, parts in zip(attention.new, zip(*new, strict=True), strict=True)
    ]
    name = scope.path("context.heads")
    merge.replace_input_with(0, _join(scope, contexts, attention.context, name, axis=3))
    assert merge.graph is not None
    merge.graph.insert_before(merge, scope.sheet.nodes)
    return cached


def _take_apart(scope: Scope, whole: ir.Value) -> Sequence[ir.Value]:
    """Return the heads of a cache [heads, 1, ...]."""
    heads, *rest = sizes_of(whole)
    if heads == 1:
        return [whole]
    parts = [new_value(f"{whole.name}.head_{head}", [1, *rest]) for head in range(heads)]
    for part in parts:
        set_canonical_name(part, canonical_name(whole))
    ones = scope.constant(f"shape.heads.{heads}", np.ones(heads, np.int64))
    return scope.emit_many("Split", [whole, ones], parts, axis=0)


def _join(
    scope: Scope, parts: Sequence[ir.Value], whole: ir.Value, name: str, axis: int
) -> ir.Value:
    """Return heads beside each other, as `whole` has them, under another name."""
    sizes = sizes_of(parts[0])
    sizes[axis] = len(parts) * sizes[axis]
    joined = new_value(name, sizes)
    set_canonical_name(joined, canonical_name(whole))
    scope.emit_many("Concat", parts, [joined], axis=axis)
    return joined


def _reached_from(first: ir.Node, nodes: Sequence[ir.Node]) -> set[ir.Node]:
    """Return `first` and those after it that read what is made of its outputs."""
    reached = {first}
    for node in nodes:
        if any(value.producer() in reached for value in node.inputs if value is not None):
            reached.add(node)
    return reached

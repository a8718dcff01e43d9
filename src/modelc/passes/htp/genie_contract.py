"""The static graph with the inputs and outputs that Genie feeds (see `ir.genie`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import BadInput
from modelc.ir import genie
from modelc.ir.emit import Scope, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import set_canonical_name
from modelc.passes.base import Pass
from modelc.passes.htp.static import reshape, scope_in, sizes_of

_CACHE: Final = re.compile(r"past_key_values\.(\d+)\.key")
_WINDOW: Final = re.compile(r"mask\.window\.(\d+)")


@dataclass(frozen=True)
class GenieContract(Pass):
    """Expanded and static to Genie's tensors; every value that stays keeps its name.

    Mask and rotary tables become inputs, keys are cached transposed, only the new keys and values
    come out, and attention is [KV, group, AR, D] x [KV, 1, D, CL], so that the query heads of one
    key head are the rows of one product.
    """

    name: ClassVar[str] = "genie_contract"
    before: ClassVar[Stage] = "expanded"
    after: ClassVar[Stage] = "htp"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        values = {str(value.name): value for node in graph for value in node.outputs}
        values |= {str(value.name): value for value in graph.inputs}
        _refuse_windows(values)
        token_ids, logits = values["input_ids"], values["logits"]
        token_ids.name, token_ids.dtype = genie.INPUT_IDS, ir.DataType.INT32
        logits.name = genie.LOGITS
        inputs = [
            token_ids,
            _take_from_outside(values["mask.full"], genie.MASK),
            _take_from_outside(values["rope.cos.new"], genie.COS),
            _take_from_outside(values["rope.sin.new"], genie.SIN),
        ]
        outputs = [logits]
        for layer in sorted(int(found[1]) for name in values if (found := _CACHE.fullmatch(name))):
            for cached in _rewrite_attention(graph, values, layer):
                inputs.append(cached.past)
                outputs.append(cached.new)
        graph.inputs[:] = inputs
        graph.outputs[:] = outputs
        RemoveUnusedNodesPass()(model)
        return model


@dataclass(frozen=True)
class _Layout:
    """How keys or values are cached.

    Attributes:
        source: the new ones, [1, KV, AR, D], by name within the attention's module.
        result: name of past and new together.
        order: of the axes of `source`, as the product with queries or probabilities needs them.
        positions: the axis that then counts positions.
    """

    kind: Literal["key", "value"]
    source: str
    result: str
    order: tuple[int, int, int, int]
    positions: int


_KEYS: Final = _Layout("key", "k_rope", "keys", (1, 0, 3, 2), 3)
_VALUES: Final = _Layout("value", "v_heads", "values", (1, 0, 2, 3), 2)


@dataclass(frozen=True)
class _Cached:
    past: ir.Value
    new: ir.Value
    whole: ir.Value


def _rewrite_attention(
    graph: ir.Graph, values: Mapping[str, ir.Value], layer: int
) -> tuple[_Cached, _Cached]:
    """Write one layer's attention in Genie's layout; return its keys and values."""
    module = f"model.layers.{layer}.self_attn"
    queries = values[f"{module}.q_rope"]
    scores, context = values[f"{module}.scores"], values[f"{module}.context"]
    context_length = sizes_of(scores)[-1]

    first = scope_in(graph, module)
    keys = _cache(first, values, layer, _KEYS, context_length)
    cached = _cache(first, values, layer, _VALUES, context_length)
    kv_heads = sizes_of(keys.whole)[0]
    _, heads, ar, width = sizes_of(queries)
    rows = [kv_heads, heads // kv_heads, ar, width]
    grouped = reshape(first, queries, rows, "q_groups")
    product = first.emit("MatMul", [grouped, keys.whole], [*rows[:3], context_length], "scores")
    _replace(graph, scores, product, first)
    chances = _regroup_until_softmax(product)

    second = scope_in(graph, module)
    mixed = second.emit("MatMul", [chances, cached.whole], rows, "context.groups")
    set_canonical_name(mixed, f"{module}.context")
    _replace(graph, context, reshape(second, mixed, sizes_of(context), "context"), second)
    return keys, cached


def _cache(
    scope: Scope, values: Mapping[str, ir.Value], layer: int, layout: _Layout, context_length: int
) -> _Cached:
    source = values[scope.path(layout.source)]
    sizes = [sizes_of(source)[axis] for axis in layout.order]
    ar = sizes[layout.positions]

    def dims(count: int) -> list[int]:
        return [*sizes[: layout.positions], count, *sizes[layout.positions + 1 :]]

    past = new_value(genie.cache(layout.kind, layer, "in"), dims(context_length - ar))
    new = new_value(genie.cache(layout.kind, layer, "out"), sizes)
    scope.emit_many("Transpose", [source], [new], perm=layout.order)
    whole = scope.emit(
        "Concat", [past, new], dims(context_length), layout.result, axis=layout.positions
    )
    for value in (past, new, whole):
        set_canonical_name(value, f"present.{layer}.{layout.kind}")
    return _Cached(past, new, whole)


def _replace(graph: ir.Graph, old: ir.Value, new: ir.Value, scope: Scope) -> None:
    producer = old.producer()
    assert producer is not None
    graph.insert_before(producer, scope.sheet.nodes)
    old.replace_all_uses_with(new)


def _regroup_until_softmax(scores: ir.Value) -> ir.Value:
    """Give what is computed of the scores element by element their shape; return the chances."""
    value = scores
    while True:
        (node,) = value.consumers()
        (value,) = node.outputs
        value.shape = scores.shape
        if node.op_type == "Softmax":
            return value


def _take_from_outside(value: ir.Value, name: str) -> ir.Value:
    """Make a graph input of a value that was computed."""
    taken = new_value(name, sizes_of(value))
    set_canonical_name(taken, str(value.name))
    value.replace_all_uses_with(taken)
    return taken


def _refuse_windows(values: Mapping[str, ir.Value]) -> None:
    for name in values:
        if found := _WINDOW.fullmatch(name):
            raise BadInput(
                f"layers of the model look back {found[1]} positions, less than the context, but "
                "Genie gives all layers one mask",
                hint=f"use --context-length {found[1]} or less",
            )

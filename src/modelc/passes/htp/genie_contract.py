"""The static graph with the inputs and outputs that Genie feeds (see `ir.genie`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import BadInput
from modelc.ir import genie
from modelc.ir.emit import Scope, Sheet, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import set_canonical_name
from modelc.passes.base import Pass
from modelc.passes.htp.static import reshape, sizes_of

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
        token_ids = values["input_ids"]
        token_ids.name, token_ids.dtype = genie.INPUT_IDS, ir.DataType.INT32
        inputs = [
            token_ids,
            _take_from_outside(values["mask.full"], genie.MASK),
            _take_from_outside(values["rope.cos.new"], genie.COS),
            _take_from_outside(values["rope.sin.new"], genie.SIN),
        ]
        logits = values["logits"]
        logits.name = genie.LOGITS
        outputs = [logits]
        for layer in range(sum(name.endswith(".key") for name in values) // 2):
            taken, given = _Attention(graph, values, layer).rewrite()
            inputs += taken
            outputs += given
        graph.inputs[:] = inputs
        graph.outputs[:] = outputs
        RemoveUnusedNodesPass()(model)
        return model


class _Attention:
    """The attention of one layer, on its way to Genie's layout."""

    def __init__(self, graph: ir.Graph, values: dict[str, ir.Value], layer: int) -> None:
        self._graph, self._values, self._layer = graph, values, layer
        self._module = f"model.layers.{layer}.self_attn"
        _, self._heads, self._ar, self._width = sizes_of(self._value("q_rope"))
        _, self._kv_heads, self._past, _ = sizes_of(values[f"past_key_values.{layer}.key"])

    def rewrite(self) -> tuple[Sequence[ir.Value], Sequence[ir.Value]]:
        """Return the layer's inputs and outputs."""
        kv_heads, width, group = self._kv_heads, self._width, self._heads // self._kv_heads
        total = self._past + self._ar
        before = Scope(self._module, Sheet(initializers=self._graph.initializers))
        past_key, new_key, keys = self._cached(before, "key", "k_rope", "keys", (width, None))
        past_value, new_value_, values = self._cached(
            before, "value", "v_heads", "values", (None, width)
        )
        rows = [kv_heads, group, self._ar, width]
        queries = reshape(before, self._value("q_rope"), rows, "q_groups")
        scores = before.emit("MatMul", [queries, keys], [*rows[:3], total], "scores")
        self._replace(self._value("scores"), scores, before)
        chances = _regroup_until_softmax(scores)

        after = Scope(self._module, Sheet(initializers=self._graph.initializers))
        context = after.emit("MatMul", [chances, values], rows, "context.groups")
        set_canonical_name(context, f"{self._module}.context")
        heads = [1, self._heads, self._ar, width]
        self._replace(self._value("context"), reshape(after, context, heads, "context"), after)
        return [past_key, past_value], [new_key, new_value_]

    def _cached(
        self,
        scope: Scope,
        kind: Literal["key", "value"],
        source: str,
        result: str,
        layout: tuple[int | None, int | None],
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return past, new and all keys or values; `layout` is the last two sizes, None for the
        axis of positions."""
        axis = 2 + layout.index(None)

        def dims(count: int) -> list[int]:
            return [self._kv_heads, 1, *(count if size is None else size for size in layout)]

        past = new_value(genie.cache(kind, self._layer, "in"), dims(self._past))
        new = new_value(genie.cache(kind, self._layer, "out"), dims(self._ar))
        perm = [1, 0, 3, 2] if axis == 3 else [1, 0, 2, 3]
        scope.emit_many("Transpose", [self._value(source)], [new], perm=perm)
        every = scope.emit("Concat", [past, new], dims(self._past + self._ar), result, axis=axis)
        for value in (past, new, every):
            set_canonical_name(value, f"present.{self._layer}.{kind}")
        return past, new, every

    def _value(self, name: str) -> ir.Value:
        return self._values[f"{self._module}.{name}"]

    def _replace(self, old: ir.Value, new: ir.Value, scope: Scope) -> None:
        producer = old.producer()
        assert producer is not None
        self._graph.insert_before(producer, scope.sheet.nodes)
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


def _refuse_windows(values: dict[str, ir.Value]) -> None:
    for name in values:
        if found := _WINDOW.fullmatch(name):
            raise BadInput(
                f"the model's layers look back {found[1]} positions, less than the context; "
                "Genie gives all layers one mask",
                hint=f"use --context-length {found[1]} or less",
            )

"""Attention and RotaryEmbedding written out into plain operators, with derived names.

Ranges are gathered on the expanded graph, so that attention scores, probabilities and the halves
of rotated heads have encodings; whatever is lowered from it keeps these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.emit import Scope, Sheet, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass

Dim = int | str


@dataclass(frozen=True)
class ExpandComposites(Pass):
    """Canonical to expanded. `RMSNormalization` stays whole; results keep their names."""

    name: ClassVar[str] = "expand_composites"
    before: ClassVar[Stage] = "canonical"
    after: ClassVar[Stage] = "expanded"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        tables = _gather_tables(graph)
        for node in list(graph):
            scope = Scope(module_of(node), Sheet(initializers=graph.initializers))
            if node.op_type == "Attention":
                results = _attention(scope, node)
            elif node.op_type == "RotaryEmbedding":
                results = [_rotary(scope, node, tables)]
            else:
                continue
            ir.convenience.replace_nodes_and_values(
                graph, node, [node], scope.sheet.nodes, node.outputs, results
            )
        return model


def _attention(scope: Scope, node: ir.Node) -> list[ir.Value]:
    """softmax(softcap(scale * q @ k.T) + mask) @ v over the past and the new keys and values.

    Query heads that share a key head are folded into the rows of one product, so keys and values
    are neither repeated nor broadcast.
    """
    _expect(node, {"scale", "softcap"}, inputs=6)
    queries, keys, values, mask, past_key, past_value = _inputs(node)
    dims_q, dims_k = dims_of(queries), dims_of(node.outputs[1])
    scores_dims = [*dims_q[:3], dims_k[2]]

    key = scope.emit("Concat", [past_key, keys], dims_k, "present_key", axis=2)
    value = scope.emit("Concat", [past_value, values], dims_k, "present_value", axis=2)
    turned_dims = [*dims_k[:2], dims_k[3], dims_k[2]]
    turned = scope.emit("Transpose", [key], turned_dims, "keys", perm=[0, 1, 3, 2])
    scores = _per_key_head(scope, queries, turned, scores_dims, "scores")
    scale = node.attributes.get_float("scale", float(dims_q[3]) ** -0.5)
    factor = scope.constant(scope.path("scale"), np.array(scale, np.float32))
    scores = scope.emit("Mul", [scores, factor], scores_dims, "scaled")
    if cap := node.attributes.get_float("softcap", 0.0):
        scores = _softcap(scope, scores, cap)
    scores = scope.emit("Add", [scores, mask], scores_dims, "masked")
    chances = scope.emit("Softmax", [scores], scores_dims, "probabilities", axis=-1)
    return [_per_key_head(scope, chances, value, dims_q, "context"), key, value]


def _per_key_head(
    scope: Scope, left: ir.Value, right: ir.Value, dims: list[Dim], name: str
) -> ir.Value:
    """left [batch, heads, rows, n] @ right [batch, kv_heads, n, columns], per group of heads."""
    batch, heads, rows, width = dims_of(left)
    kv_heads = dims_of(right)[1]
    if heads == kv_heads:
        return scope.emit("MatMul", [left, right], dims, name)
    assert isinstance(heads, int) and isinstance(kv_heads, int)
    group = heads // kv_heads
    folded: Dim = rows * group if isinstance(rows, int) else f"{group} * {rows}"
    fold = scope.constant(f"shape.folded_heads.{kv_heads}", np.array([0, kv_heads, -1, 0]))
    unfold = scope.constant(f"shape.unfolded_heads.{heads}", np.array([0, heads, -1, 0]))
    rows_in = [batch, kv_heads, folded, width]
    rows_out = [batch, kv_heads, folded, dims[3]]
    left = scope.emit("Reshape", [left, fold], rows_in, f"{name}.left")
    product = scope.emit("MatMul", [left, right], rows_out, f"{name}.folded")
    return scope.emit("Reshape", [product, unfold], dims, name)


def _softcap(scope: Scope, scores: ir.Value, cap: float) -> ir.Value:
    dims = dims_of(scores)
    limit = scope.constant(scope.path("softcap"), np.array(cap, np.float32))
    ratio = scope.emit("Div", [scores, limit], dims, "capped.ratio")
    bounded = scope.emit("Tanh", [ratio], dims, "capped.tanh")
    return scope.emit("Mul", [bounded, limit], dims, "capped")


def _rotary(scope: Scope, node: ir.Node, tables: Mapping[str, ir.Value]) -> ir.Value:
    """[first, second, rest] to [first * cos - second * sin, second * cos + first * sin, rest]."""
    heads, cos_table, sin_table, _ = _inputs(node)
    cos, sin = tables[str(cos_table.name)], tables[str(sin_table.name)]
    name = str(node.outputs[0].name).removeprefix(f"{scope.module}.")
    dims, half = dims_of(heads), dims_of(cos)[-1]
    assert isinstance(half, int) and isinstance(dims[3], int)
    widths = {"first": half, "second": half, "rest": dims[3] - 2 * half}
    widths = {part: width for part, width in widths.items() if width}
    sizes = scope.constant("shape.rotary", np.array([*widths.values()]))
    halves = [
        new_value(scope.path(f"{name}.{part}"), [*dims[:3], width])
        for part, width in widths.items()
    ]
    first, second, *rest = scope.emit_many("Split", [heads, sizes], halves, axis=-1)

    def binary(op_type: str, left: ir.Value, right: ir.Value, result: str) -> ir.Value:
        return scope.emit(op_type, [left, right], dims_of(first), f"{name}.{result}")

    first_cos = binary("Mul", first, cos, "first_cos")
    second_sin = binary("Mul", second, sin, "second_sin")
    second_cos = binary("Mul", second, cos, "second_cos")
    first_sin = binary("Mul", first, sin, "first_sin")
    turned_first = binary("Sub", first_cos, second_sin, "turned_first")
    turned_second = binary("Add", second_cos, first_sin, "turned_second")
    return scope.emit("Concat", [turned_first, turned_second, *rest], dims, name, axis=-1)


def _gather_tables(graph: ir.Graph) -> dict[str, ir.Value]:
    """Look up the rotary tables at the new tokens' positions, once for all layers.

    Returns float32 [batch, 1, sequence, dim / 2] by the table's name ("rope.cos").
    """
    scope = Scope("rope", Sheet(initializers=graph.initializers))
    found: dict[str, ir.Value] = {}
    for node in graph:
        if node.op_type != "RotaryEmbedding":
            continue
        _expect(node, {"rotary_embedding_dim"}, inputs=4)
        _, cos, sin, positions = _inputs(node)
        for table in (cos, sin):
            if table.name not in found:
                found[str(table.name)] = _look_up(scope, table, positions)
    graph.insert_before(graph[0], scope.sheet.nodes)
    return found


def _look_up(scope: Scope, table: ir.Value, positions: ir.Value) -> ir.Value:
    name = str(table.name).removeprefix(f"{scope.module}.")
    (batch, sequence), (_, half) = dims_of(positions), dims_of(table)
    axis = scope.constant(scope.path("head_axis"), np.array([1], np.int64))
    rows = scope.emit("Gather", [table, positions], [batch, sequence, half], f"{name}.rows")
    return scope.emit("Unsqueeze", [rows, axis], [batch, 1, sequence, half], f"{name}.new")


def _expect(node: ir.Node, attributes: set[str], inputs: int) -> None:
    """Check that a composite is of the form that the canonical builder writes."""
    unknown = set(node.attributes) - attributes
    if unknown or len(node.inputs) != inputs or None in node.inputs:
        raise ModelcError(
            f"{node.op_type} ({node.name}) is of a form that can't be written out: "
            f"{len(node.inputs)} inputs, attributes {sorted(node.attributes)}",
            where=Where(module=module_of(node)),
            hint=f"canonical graphs use {inputs} inputs and at most {sorted(attributes)}",
        )


def _inputs(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]

"""Attention with its rotary embedding as ONNX Runtime's GroupQueryAttention."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import ModelcError, Where
from modelc.ir.emit import Dims, Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import MICROSOFT, import_contrib, replace, scope_at

_MASK: Final = re.compile(r"mask\.(?:full|window\.(\d+))")


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Canonical to cpu: masks, positions and growing caches give way to lengths and one buffer.

    Inputs `seqlens_k` int32 [batch] (tokens after this call, minus one) and
    `total_sequence_length` int32 [] (the largest of them plus one) replace `position_ids`.
    `past_key_values.*` and `present.*` become [batch, kv_heads, context_length, head_dim], which
    the caller binds to the same memory.
    """

    name: ClassVar[str] = "fuse_attention"
    before: ClassVar[Stage] = "canonical"
    after: ClassVar[Stage] = "cpu"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        import_contrib(model)
        lengths = _Lengths(
            new_value("seqlens_k", ["batch"], ir.DataType.INT32),
            new_value("total_sequence_length", [], ir.DataType.INT32),
        )
        for node in list(graph):
            if node.op_type == "Attention":
                _fuse(graph, node, lengths)
        RemoveUnusedNodesPass()(model)
        others = [value for value in graph.inputs if value.name != "position_ids"]
        graph.inputs[:] = [others[0], lengths.past, lengths.total, *others[1:]]
        return model


@dataclass(frozen=True)
class _Lengths:
    past: ir.Value
    total: ir.Value


def _fuse(graph: ir.Graph, node: ir.Node, lengths: _Lengths) -> None:
    queries, keys, values, mask, past_key, past_value = _inputs(node, 6)
    scope = scope_at(graph, node)
    rotary_q, rotary_k = _made_by(queries, "RotaryEmbedding"), _made_by(keys, "RotaryEmbedding")
    _, cos, sin, _ = _inputs(rotary_q, 4)
    head_dim, width = dims_of(queries)[3], dims_of(cos)[1]
    assert isinstance(head_dim, int) and isinstance(width, int)
    _check_heads(node, head_dim)

    q, k = (_rows(scope, rotary.inputs[0]) for rotary in (rotary_q, rotary_k))
    v = _rows(scope, values)
    # What GroupQueryAttention's own rotary embedding takes.
    inside = width % 8 == 0 and head_dim % 16 == 0
    if not inside:
        positions = _positions(graph, lengths)
        q = _rotate(scope, rotary_q, q, positions)
        k = _rotate(scope, rotary_k, k, positions)

    context_length = dims_of(cos)[0]
    for value in (past_key, past_value, *node.outputs[1:]):
        value.shape = ir.Shape([*dims_of(value)[:2], context_length, head_dim])
    transpose, merge = _merging(node.outputs[0])
    merged = merge.outputs[0]
    present = [new_value(f"{v.name}", dims_of(v)) for v in node.outputs[1:]]
    result = new_value(str(merged.name), dims_of(merged))
    tables = [cos, sin] if inside else []
    window = _window(mask)
    scope.emit_many(
        "GroupQueryAttention",
        [q, k, v, past_key, past_value, lengths.past, lengths.total, *tables],
        [result, *present],
        domain=MICROSOFT,
        num_heads=_heads(queries),
        kv_num_heads=_heads(keys),
        do_rotary=int(inside),
        scale=node.attributes.get_float("scale", float(head_dim) ** -0.5),
        **({"softcap": cap} if (cap := node.attributes.get_float("softcap", 0.0)) else {}),
        **({"local_window_size": window} if window else {}),
    )
    replace(
        graph,
        [node, transpose, merge],
        scope,
        [*node.outputs[1:], merged],
        [*present, result],
    )


def _rows(scope: Scope, heads: ir.Value | None) -> ir.Value:
    """[batch, sequence, heads * head_dim] of what was transposed to [batch, heads, ...]."""
    transpose = _made_by(heads, "Transpose")
    (rows,) = _inputs(transpose, 1)
    node = rows.producer()
    if node is not None and node.op_type == "Reshape":
        return _inputs(node, 2)[0]
    batch, sequence, count, head_dim = dims_of(rows)
    assert isinstance(count, int) and isinstance(head_dim, int)
    width = count * head_dim
    shape = scope.constant(f"shape.merged.{width}", np.array([0, 0, width], np.int64))
    name = str(rows.name).removeprefix(f"{scope.module}.") + ".merged"
    return scope.emit("Reshape", [rows, shape], [batch, sequence, width], name)


def _rotate(scope: Scope, rotary: ir.Node, rows: ir.Value, positions: ir.Value) -> ir.Value:
    """The rotary embedding of rows [batch, sequence, heads * head_dim], before attention."""
    _, cos, sin, _ = _inputs(rotary, 4)
    return scope.emit(
        "RotaryEmbedding",
        [rows, cos, sin, positions],
        dims_of(rows),
        str(rotary.outputs[0].name).removeprefix(f"{scope.module}.") + ".rows",
        num_heads=_heads(rotary.outputs[0]),
        rotary_embedding_dim=rotary.attributes.get_int("rotary_embedding_dim", 0),
    )


def _positions(graph: ir.Graph, lengths: _Lengths) -> ir.Value:
    """Positions of the new tokens, int64 [batch, sequence], made once for all layers."""
    for node in graph:
        if node.outputs[0].name == "rope.positions":
            return node.outputs[0]
    scope = Scope("rope", scope_at(graph, graph[0]).sheet)
    one = scope.constant("rope.one", np.array(1, np.int64))
    axis = scope.constant("rope.batch_axis", np.array([1], np.int64))

    def integers(op_type: str, inputs: list[ir.Value], dims: Dims, name: str) -> ir.Value:
        return scope.emit(op_type, inputs, dims, name, dtype=ir.DataType.INT64)

    size = scope.emit(
        "Shape", [graph.inputs[0]], [1], "count.size", dtype=ir.DataType.INT64, start=1, end=2
    )
    count = integers("Squeeze", [size], [], "count")
    first = integers("Sub", [one, count], [], "first")
    offsets = integers("Range", [first, one, one], ["sequence"], "offsets")
    last = scope.emit(
        "Cast", [lengths.past], ["batch"], "last", dtype=ir.DataType.INT64, to=ir.DataType.INT64
    )
    column = integers("Unsqueeze", [last, axis], ["batch", 1], "last.column")
    positions = integers("Add", [column, offsets], ["batch", "sequence"], "positions")
    graph.insert_before(graph[0], scope.sheet.nodes)
    return positions


def _merging(context: ir.Value) -> tuple[ir.Node, ir.Node]:
    """Return the Transpose and the Reshape that put the heads side by side."""
    (transpose,) = context.consumers()
    (merge,) = transpose.outputs[0].consumers()
    return transpose, merge


def _window(mask: ir.Value) -> int:
    found = _MASK.fullmatch(str(mask.name))
    if found is None:
        raise ModelcError(f"{mask.name} is no mask of a canonical graph")
    return int(found[1] or 0)


def _heads(value: ir.Value) -> int:
    heads = dims_of(value)[1]
    assert isinstance(heads, int)
    return heads


def _check_heads(node: ir.Node, head_dim: int) -> None:
    if head_dim % 8:
        raise ModelcError(
            f"heads are {head_dim} wide, GroupQueryAttention takes multiples of 8",
            where=Where(module=module_of(node)),
            hint="this model can't be compiled for the CPU",
        )


def _made_by(value: ir.Value | None, op_type: str) -> ir.Node:
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != op_type:
        raise ModelcError(f"{value} is not made by {op_type}, as in a canonical graph")
    return node


def _inputs(node: ir.Node, count: int) -> list[ir.Value]:
    values = [value for value in node.inputs if value is not None]
    if len(values) != count:
        raise ModelcError(f"{node.op_type} ({node.name}) has {len(values)} inputs, not {count}")
    return values

"""Attention over a paged cache: heads, rotary embedding and masks become two operators."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import ModelcError
from modelc.ir.emit import Dims, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cuda.dialect import DOMAIN, import_dialect, made_by, nodes_of

_MASK: Final = re.compile(r"mask\.(?:full|window\.(\d+))")
_INTEGERS: Final[dict[str, Dims]] = {
    "slots": ["tokens"],
    "block_tables": ["sequences", "max_pages"],
    "starts": ["sequences + 1"],
    "lengths": ["sequences"],
}


@dataclass(frozen=True)
class FuseAttention(Pass):
    """Canonical to cuda: [batch, sequence, ...] becomes [tokens, ...], and the growing caches give
    way to pages.

    The inputs are `input_ids` and `position_ids` int32 [tokens]; `slots` int32 [tokens], where in
    the cache each token goes (page * page size + place in it); `block_tables` int32
    [sequences, max_pages]; `starts` int32 [sequences + 1], rows of the tokens of each sequence;
    `lengths` int32 [sequences], positions after this call; and for each layer `key_cache.N`,
    `value_cache.N` [pages, kv_heads, page, head_dim], which are written in place.
    """

    name: ClassVar[str] = "fuse_attention"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        import_dialect(model)
        given = {name: new_value(name, dims, ir.DataType.INT32) for name, dims in _INTEGERS.items()}
        caches = [
            cache
            for layer, node in enumerate(nodes_of(graph, "Attention"))
            for cache in _fuse(graph, node, layer, given)
        ]
        RemoveUnusedNodesPass()(model)
        ids, positions = graph.inputs[:2]
        graph.inputs[:] = [ids, positions, *given.values(), *caches]
        graph.outputs[:] = graph.outputs[:1]
        for value in (ids, positions):
            value.dtype = ir.DataType.INT32
        _flatten(graph)
        return model


def _fuse(
    graph: ir.Graph, node: ir.Node, layer: int, given: dict[str, ir.Value]
) -> tuple[ir.Value, ir.Value]:
    queries, keys, values, mask = node.inputs[:4]
    rotary = _needed(made_by(queries, "RotaryEmbedding"))
    _, cos, sin, positions = rotary.inputs[:4]
    q, query_norm = _rows(rotary.inputs[0])
    k, key_norm = _rows(_needed(made_by(keys, "RotaryEmbedding")).inputs[0])
    v, _ = _rows(values)
    transpose = _reader(node.outputs[0])
    merge = _reader(transpose.outputs[0])
    merged = merge.outputs[0]
    heads, kv_heads, head_dim = _dim(queries, 1), _dim(keys, 1), _dim(queries, 3)
    scope = scope_at(graph, node)
    sizes: dict[str, Any] = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    caches = (
        new_value(f"key_cache.{layer}", ["pages", kv_heads, "page", head_dim]),
        new_value(f"value_cache.{layer}", ["pages", kv_heads, "page", head_dim]),
    )
    width = (heads + 2 * kv_heads) * head_dim
    qkv = scope.emit("Concat", [q, k, v], ["tokens", width], "qkv", axis=-1)
    norms = [norm.inputs[1] if norm else None for norm in (query_norm, key_norm)]
    epsilon = query_norm.attributes.get_float("epsilon", 0.0) if query_norm else 0.0
    rotated = scope.emit(
        "RopeWrite",
        [qkv, *norms, cos, sin, positions, given["slots"], *caches],
        ["tokens", heads * head_dim],
        "queries",
        domain=DOMAIN,
        rotary=rotary.attributes.get_int("rotary_embedding_dim", 0) or head_dim,
        epsilon=epsilon,
        **sizes,
    )
    result = new_value(str(merged.name), ["tokens", heads * head_dim])
    scope.emit_many(
        "PagedAttention",
        [rotated, *caches, given["block_tables"], given["starts"], given["lengths"]],
        [result],
        domain=DOMAIN,
        scale=node.attributes.get_float("scale", float(head_dim) ** -0.5),
        softcap=node.attributes.get_float("softcap", 0.0),
        window=_window(mask),
        **sizes,
    )
    for value in node.outputs[1:]:  # what has grown is no result any more
        graph.outputs.remove(value)
    replace(graph, [node, transpose, merge], scope, [merged], [result])
    return caches


def _rows(heads: ir.Value | None) -> tuple[ir.Value, ir.Node | None]:
    """Return the projection that heads were made of, and the norm of each head, if there is one."""
    transpose = _needed(made_by(heads, "Transpose"))
    norm = made_by(transpose.inputs[0], "RMSNormalization")
    split = _needed(made_by((norm or transpose).inputs[0], "Reshape"))
    assert split.inputs[0] is not None
    return split.inputs[0], norm


def _flatten(graph: ir.Graph) -> None:
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        dims = dims_of(value)
        if dims[:2] == ["batch", "sequence"]:
            value.shape = ir.Shape(["tokens", *dims[2:]])


def _reader(value: ir.Value) -> ir.Node:
    (node,) = value.consumers()
    return node


def _needed(node: ir.Node | None) -> ir.Node:
    if node is None:
        raise ModelcError("attention is not written as in a canonical graph")
    return node


def _dim(value: ir.Value | None, axis: int) -> int:
    assert value is not None
    dim = dims_of(value)[axis]
    assert isinstance(dim, int)
    return dim


def _window(mask: ir.Value | None) -> int:
    found = _MASK.fullmatch(str(mask.name)) if mask is not None else None
    if found is None:
        raise ModelcError("attention has no mask of a canonical graph")
    return int(found[1] or 0)

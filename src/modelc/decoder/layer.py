"""One decoder layer: attention and feed-forward, each between norms, each added back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelc.decoder.architectures import ARCHITECTURES
from modelc.decoder.config import DecoderModel
from modelc.decoder.experts import mix_experts
from modelc.decoder.feed_forward import feed_forward
from modelc.decoder.linear import linear, rms_norm
from modelc.ir.emit import Scope, dims_of, new_value


@dataclass(frozen=True)
class Tables:
    """What every layer's rotary embedding reads."""

    position_ids: ir.Value
    cos: ir.Value
    sin: ir.Value


@dataclass(frozen=True)
class KeyValue:
    """A layer's KV cache before and after the new tokens."""

    past_key: ir.Value
    past_value: ir.Value
    present_key: ir.Value
    present_value: ir.Value


def build_layer(
    scope: Scope,
    source: DecoderModel,
    layer: int,
    x: ir.Value,
    tables: Tables,
    mask: ir.Value,
    cache: KeyValue,
) -> ir.Value:
    """Return the layer's output [batch, sequence, hidden], called as the layer's module."""
    config = source.config
    post_norms, experts = ARCHITECTURES[config.architecture].post_norms, config.experts_of(layer)

    def norm(name: str, value: ir.Value) -> ir.Value:
        return rms_norm(scope.inside(name), source, value)

    mixed = norm("input_layernorm", x)
    mixed = _attention(scope.inside("self_attn"), source, mixed, tables, mask, cache)
    if post_norms:
        mixed = norm("post_attention_layernorm", mixed)
    middle = scope.emit("Add", [x, mixed], dims_of(x), "residual")

    fed = norm("pre_feedforward_layernorm" if post_norms else "post_attention_layernorm", middle)
    if experts:
        fed = mix_experts(scope.inside("mlp"), source, experts, fed)
    else:
        fed = feed_forward(scope.inside("mlp"), source, fed, config.intermediate_size)
    if post_norms:
        fed = norm("post_feedforward_layernorm", fed)
    return scope.emit("Add", [middle, fed], dims_of(x))


def _attention(
    scope: Scope,
    source: DecoderModel,
    x: ir.Value,
    tables: Tables,
    mask: ir.Value,
    cache: KeyValue,
) -> ir.Value:
    config = source.config
    queries = _rotate(scope, source, "q", _heads(scope, source, x, "q", config.heads), tables)
    keys = _rotate(scope, source, "k", _heads(scope, source, x, "k", config.kv_heads), tables)
    values = _heads(scope, source, x, "v", config.kv_heads)
    context = new_value(scope.path("context"), dims_of(queries))
    scope.emit_many(
        "Attention",
        [queries, keys, values, mask, cache.past_key, cache.past_value],
        [context, cache.present_key, cache.present_value],
        scale=config.attention_scale,
        softcap=config.attention_softcap,
    )
    width = config.heads * config.head_dim
    rows = scope.emit(
        "Transpose",
        [context],
        ["batch", "sequence", config.heads, config.head_dim],
        "context.rows",
        perm=[0, 2, 1, 3],
    )
    merge = scope.constant("shape.merged_heads", np.array([0, 0, width], np.int64))
    merged = scope.emit("Reshape", [rows, merge], ["batch", "sequence", width], "context.merged")
    return linear(scope.inside("o_proj"), source, merged, config.hidden_size)


def _heads(scope: Scope, source: DecoderModel, x: ir.Value, which: str, heads: int) -> ir.Value:
    """Project x and set its heads apart: [batch, heads, sequence, head_dim]."""
    config = source.config
    projection = scope.inside(f"{which}_proj")
    projected = linear(projection, source, x, heads * config.head_dim)
    split = scope.constant(f"shape.heads.{heads}", np.array([0, 0, heads, config.head_dim]))
    dims: list[int | str] = ["batch", "sequence", heads, config.head_dim]
    rows = projection.emit("Reshape", [projected, split], dims, "rows")
    if which != "v" and ARCHITECTURES[config.architecture].head_norms:
        rows = rms_norm(scope.inside(f"{which}_norm"), source, rows)
    dims = ["batch", heads, "sequence", config.head_dim]
    return scope.emit("Transpose", [rows], dims, f"{which}_heads", perm=[0, 2, 1, 3])


def _rotate(
    scope: Scope, source: DecoderModel, which: str, heads: ir.Value, tables: Tables
) -> ir.Value:
    return scope.emit(
        "RotaryEmbedding",
        [heads, tables.cos, tables.sin, tables.position_ids],
        dims_of(heads),
        f"{which}_rope",
        rotary_embedding_dim=source.config.rope.dim,
    )

"""The canonical graph of a decoder: standard ONNX operators, symbolic sizes, KV cache in and out.

One builder for every architecture; `decoder.architectures` says where they differ. No weight is
decoded while building.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.decoder.check import check_source
from modelc.decoder.config import DecoderConfig, DecoderModel
from modelc.decoder.layer import KeyValue, Tables, build_layer
from modelc.decoder.linear import linear, rms_norm, softcap
from modelc.decoder.mask import attention_masks
from modelc.decoder.rope import rope_tables
from modelc.errors import BadInput
from modelc.ir.emit import Scope, Sheet, new_value

OPSET: Final = 23  # the first with Attention, RotaryEmbedding and RMSNormalization
IR_VERSION: Final = 11


def build_decoder(source: DecoderModel, context_length: int) -> ir.Model:
    """Build the canonical graph (see ARCHITECTURE.md) for at most `context_length` positions.

    Raises:
        BadInput: the context is longer than the model's, or the source is incomplete.
    """
    check_source(source)
    config = source.config
    _check_context(config, context_length)
    root = Scope("", Sheet())
    input_ids = new_value("input_ids", ["batch", "sequence"], ir.DataType.INT64)
    position_ids = new_value("position_ids", ["batch", "sequence"], ir.DataType.INT64)
    caches = [_cache(config, layer) for layer in range(config.layers)]

    # A window that the context can't outgrow hides nothing.
    windows = [window if window < context_length else 0 for window in config.windows]
    masks = attention_masks(root.inside("mask"), input_ids, caches[0].past_key, windows)
    cos, sin = rope_tables(config.rope, context_length, config.max_context)
    tables = Tables(position_ids, root.constant("rope.cos", cos), root.constant("rope.sin", sin))

    hidden = _embed(root.inside("model.embed_tokens"), source, input_ids)
    for layer, cache in enumerate(caches):
        scope = root.inside(f"model.layers.{layer}")
        hidden = build_layer(scope, source, layer, hidden, tables, masks[windows[layer]], cache)
    hidden = rms_norm(root.inside("model.norm"), source, hidden)
    logits = _head(root.inside("lm_head"), source, hidden)

    past = [value for cache in caches for value in (cache.past_key, cache.past_value)]
    present = [value for cache in caches for value in (cache.present_key, cache.present_value)]
    graph = ir.Graph(
        [input_ids, position_ids, *past],
        [logits, *present],
        nodes=root.sheet.nodes,
        initializers=list(root.sheet.initializers.values()),
        opset_imports={"": OPSET},
        name="decoder",
    )
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="modelc")


def _check_context(config: DecoderConfig, context_length: int) -> None:
    if context_length < 1:
        raise BadInput(f"a context of {context_length} positions is no context")
    if context_length > config.max_context:
        raise BadInput(
            f"a context of {context_length} is longer than the model's {config.max_context}",
            hint=f"use --context-length {config.max_context} or less",
        )


def _cache(config: DecoderConfig, layer: int) -> KeyValue:
    def dims(length: str) -> list[int | str]:
        return ["batch", config.kv_heads, length, config.head_dim]

    return KeyValue(
        past_key=new_value(f"past_key_values.{layer}.key", dims("past")),
        past_value=new_value(f"past_key_values.{layer}.value", dims("past")),
        present_key=new_value(f"present.{layer}.key", dims("past + sequence")),
        present_value=new_value(f"present.{layer}.value", dims("past + sequence")),
    )


def _embed(scope: Scope, source: DecoderModel, input_ids: ir.Value) -> ir.Value:
    dims: list[int | str] = ["batch", "sequence", source.config.hidden_size]
    name = scope.path("weight")
    table = scope.weight(name, source.weights[name])
    rows = scope.emit("Gather", [table, input_ids], dims, axis=0)
    if source.config.embedding_scale == 1.0:
        return rows
    scale = np.array(source.config.embedding_scale, np.float32)
    return scope.emit("Mul", [rows, scope.constant(scope.path("scale"), scale)], dims, "scaled")


def _head(scope: Scope, source: DecoderModel, hidden: ir.Value) -> ir.Value:
    """Logits of every position; a tied head reads the embedding's rows as columns."""
    config = source.config
    if config.tied_head:
        tied = {"lm_head.weight": source.weights["model.embed_tokens.weight"]}
        source = replace(source, weights={**source.weights, **tied})
    if not config.logit_softcap:
        return linear(scope, source, hidden, config.vocab_size, result="logits")
    raw = linear(scope, source, hidden, config.vocab_size)
    return softcap(scope, raw, config.logit_softcap, result="logits")

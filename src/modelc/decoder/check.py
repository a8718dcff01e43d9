"""Is a source complete and consistent? Checked once, before a graph is built of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from modelc.decoder.architectures import find_architecture
from modelc.decoder.config import DecoderConfig, DecoderModel, Experts
from modelc.errors import BadInput, Where
from modelc.ir.stored import tensor_shape

LARGEST_FACTOR: Final = 1e6  # of a context's extension


def check_source(source: DecoderModel) -> None:
    """Check the sizes and that every weight is there, as wide as they say, and known.

    Raises:
        BadInput: names the first size or weight that is wrong.
    """
    check_config(source.config)
    experts = source.config.experts
    for count, what in (
        (source.config.layers, "layers"),
        (experts.count * len(experts.layers) if experts else 0, "experts"),
    ):
        if count > len(source.weights):  # before names of that many are made
            raise BadInput(
                f"the model is said to have {count} {what}, "
                f"but the source has {len(source.weights)} weights"
            )
    expected: dict[str, tuple[int, ...]] = dict(plain_shapes(source.config))
    for name, (rows, columns) in linear_shapes(source.config):
        expected[f"{name}.weight"] = (rows, columns)
        if f"{name}.bias" in source.weights:
            expected[f"{name}.bias"] = (rows,)
    for name, shape in expected.items():
        if name not in source.weights:
            raise BadInput(
                f"the source has no weight {name}",
                where=Where(module=name.rpartition(".")[0]),
                hint=f"{source.config.architecture} with {source.config.layers} layers needs it",
            )
        matrix = source.weights[name]
        found = tensor_shape(replace(matrix, transposed=False))
        if found != shape:
            raise BadInput(
                f"weight {name} is {list(found)}, not {list(shape)}",
                where=Where(module=name.rpartition(".")[0], path=str(matrix.path)),
            )
    unknown = sorted(source.weights.keys() - expected.keys())
    if unknown:
        raise BadInput(
            f"{source.config.architecture} has no weight {unknown[0]}",
            where=Where(path=str(source.weights[unknown[0]].path)),
            hint=f"{len(unknown)} weights would be left out: {', '.join(unknown[:5])}",
        )


def check_config(config: DecoderConfig) -> None:
    """Check that the sizes and constants fit each other.

    Raises:
        BadInput: names the first that doesn't.
    """
    architecture, rope, experts = (
        find_architecture(config.architecture),
        config.rope,
        config.experts,
    )
    caps = (config.attention_softcap, config.logit_softcap)
    scales = (config.attention_scale, config.embedding_scale, config.norm_epsilon)
    sizes = (config.vocab_size, config.hidden_size, config.intermediate_size)
    counts = (config.layers, config.heads, config.kv_heads, config.head_dim)
    heads = f"heads {config.heads}, kv_heads {config.kv_heads}"
    checks = (
        (min(sizes) > 0, f"vocabulary, hidden and feed-forward sizes {sizes}"),
        (min(counts) > 0, f"layers, heads, kv_heads and head_dim {counts}"),
        (config.max_context > 0, f"a context of {config.max_context}"),
        (config.kv_heads > 0 and config.heads % config.kv_heads == 0, f"{heads}: not a multiple"),
        (
            rope.dim > 0 and rope.dim % 2 == 0 and rope.dim <= config.head_dim,
            f"rope.dim {rope.dim} of head_dim {config.head_dim}",
        ),
        (math.isfinite(rope.theta) and rope.theta > 1, f"rope.theta {rope.theta}"),
        (1 <= rope.factor <= LARGEST_FACTOR, f"rope.factor {rope.factor}"),
        (len(config.windows) == config.layers, f"{len(config.windows)} windows of layers"),
        (all(window >= 0 for window in config.windows), "a window below 0"),
        (
            all(map(math.isfinite, scales)) and config.norm_epsilon >= 0,
            f"attention scale, embedding scale and epsilon {scales}",
        ),
        (all(map(math.isfinite, caps)) and min(caps) >= 0, f"softcaps {caps}"),
        (architecture.experts or experts is None, f"experts in {architecture.name}"),
        (experts is None or _possible(experts, config.layers), f"{experts}"),
    )
    for good, what in checks:
        if not good:
            raise BadInput(
                f"the model's configuration makes no sense: {what}",
                hint="the file is damaged, or of a kind that modelc doesn't know",
            )


def _possible(experts: Experts, layers: int) -> bool:
    return (
        1 <= experts.used <= experts.count
        and experts.hidden > 0
        and experts.shared_hidden >= 0
        and list(experts.layers) == sorted(set(experts.layers) & set(range(layers)))
    )


def linear_shapes(config: DecoderConfig) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each linear layer with its shape [out, in]; any of them may have a bias."""
    hidden = config.hidden_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.self_attn.q_proj", (queries, hidden)
        yield f"{prefix}.self_attn.k_proj", (keys, hidden)
        yield f"{prefix}.self_attn.v_proj", (keys, hidden)
        yield f"{prefix}.self_attn.o_proj", (hidden, queries)
        experts = config.experts_of(layer)
        if experts is None:
            yield from _feed_forward(f"{prefix}.mlp", hidden, config.intermediate_size)
            continue
        yield f"{prefix}.mlp.gate", (experts.count, hidden)
        for expert in range(experts.count):
            yield from _feed_forward(f"{prefix}.mlp.experts.{expert}", hidden, experts.hidden)
        if experts.shared_hidden:
            yield from _feed_forward(f"{prefix}.mlp.shared_expert", hidden, experts.shared_hidden)
            yield f"{prefix}.mlp.shared_expert_gate", (1, hidden)
    if not config.tied_head:
        yield "lm_head", (config.vocab_size, hidden)


def _feed_forward(module: str, hidden: int, inner: int) -> Iterator[tuple[str, tuple[int, int]]]:
    yield f"{module}.gate_proj", (inner, hidden)
    yield f"{module}.up_proj", (inner, hidden)
    yield f"{module}.down_proj", (hidden, inner)


def plain_shapes(config: DecoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the weights of the embedding and of the norms with their shapes."""
    yield "model.embed_tokens.weight", (config.vocab_size, config.hidden_size)
    architecture = find_architecture(config.architecture)
    norms = ["input_layernorm", "post_attention_layernorm"]
    if architecture.post_norms:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for layer in range(config.layers):
        for norm in norms:
            yield f"model.layers.{layer}.{norm}.weight", (config.hidden_size,)
        if architecture.head_norms:
            yield f"model.layers.{layer}.self_attn.q_norm.weight", (config.head_dim,)
            yield f"model.layers.{layer}.self_attn.k_norm.weight", (config.head_dim,)
    yield "model.norm.weight", (config.hidden_size,)

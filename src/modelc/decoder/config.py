"""What a decoder is, whatever file it came in: its sizes, its rotary embedding, its tokenizer.

Frontends produce a `DecoderSource`; the builder turns it into the canonical graph. Weights are
named as in Hugging Face's llama ("model.layers.0.self_attn.q_proj.weight"), matrices as stored,
[out, in], fused ones already sliced apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from modelc.errors import Damaged, Where
from modelc.ir.stored import StoredMatrix
from modelc.ir.tokenizer import TokenizerData as TokenizerData

RopeKind = Literal["default", "linear", "llama3", "yarn", "longrope"]


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding.

    Attributes:
        kind: how frequencies are scaled beyond the trained context.
        theta: base of the frequencies.
        dim: rotated width of a head, at most head_dim (the rest passes through).
        factor: context extension (linear, llama3, yarn; longrope where the source gives one).
        original_context: positions that the model was trained on before scaling (0: not given).
        low_freq_factor, high_freq_factor: llama3.
        beta_fast, beta_slow: yarn's ramp, in rotations.
        attention_factor: multiplies cos and sin; None means the kind's own formula.
        mscale, mscale_all_dim: yarn's variants of the attention factor (0: not given).
        truncate: yarn rounds its ramp's corners to whole dimensions.
        short_factors, long_factors: longrope, one per frequency (dim / 2).
        frequency_divisors: divisors of the inverse frequencies as a GGUF's `rope_freqs.weight`
            gives them; they replace the llama3 formula.
    """

    kind: RopeKind = "default"
    theta: float = 10000.0
    dim: int = 0
    factor: float = 1.0
    original_context: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float = 0.0
    mscale_all_dim: float = 0.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    frequency_divisors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Experts:
    """A mixture of experts in place of the feed-forward: each token goes to a few of many.

    Attributes:
        count: experts of a layer.
        used: how many of them a token goes to.
        hidden: width of an expert.
        layers: which layers have experts, ascending; the others have a plain feed-forward of the
            decoder's `intermediate_size`.
        normalise: the shares of the experts that a token goes to are made to sum to 1.
        shared_hidden: width of an expert that every token goes to, weighed by a gate of its own; 0
            if there is none.
    """

    count: int
    used: int
    hidden: int
    layers: tuple[int, ...]
    normalise: bool = True
    shared_hidden: int = 0


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and constants of a decoder.

    Attributes:
        architecture: a row of `decoder.architectures.ARCHITECTURES`.
        windows: sliding window of each layer in positions, 0 for full attention.
        attention_scale: multiplies q . k (usually head_dim ** -0.5).
        attention_softcap, logit_softcap: cap * tanh(x / cap); 0 for none.
        embedding_scale: multiplies the embeddings (Gemma: sqrt(hidden)).
        activation: of the gated feed-forward.
        max_context: positions that the model was made for, after rope scaling.
        tied_head: the head is the embedding's transpose.
        experts: None if every layer has a plain feed-forward.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_epsilon: float
    rope: Rope
    max_context: int
    windows: tuple[int, ...]
    attention_scale: float
    attention_softcap: float = 0.0
    logit_softcap: float = 0.0
    embedding_scale: float = 1.0
    activation: Literal["silu", "gelu_tanh", "gelu"] = "silu"
    tied_head: bool = False
    experts: Experts | None = None

    def experts_of(self, layer: int) -> Experts | None:
        """Return the experts of a layer; None if its feed-forward is a plain one."""
        return self.experts if self.experts and layer in self.experts.layers else None


@dataclass(frozen=True)
class DecoderModel:
    """What a graph is built of: configuration, and weights where they lie."""

    config: DecoderConfig
    weights: Mapping[str, StoredMatrix]


@dataclass(frozen=True)
class DecoderSource(DecoderModel):
    """All that a frontend reads: the model and its tokenizer."""

    tokenizer: TokenizerData


def with_window(model: DecoderModel, window: int | None) -> DecoderModel:
    """Return a model whose layers all look back so many positions; None: as it is."""
    if window is None:
        return model
    windows = (window,) * model.config.layers
    return DecoderModel(replace(model.config, windows=windows), model.weights)


def save_config(config: DecoderConfig, path: Path) -> None:
    """Write a configuration as JSON, sorted."""
    path.write_text(json.dumps(asdict(config), indent=1, sort_keys=True) + "\n")


def load_config(path: Path) -> DecoderConfig:
    """Read what `save_config` wrote.

    Raises:
        Damaged: it is something else.
    """
    # Imported here: reading a source needs no validator.
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(DecoderConfig).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Damaged(
            f"not a decoder's configuration: {error}", where=Where(path=str(path))
        ) from error

"""Where a factor for each channel can go from what makes a tensor into what reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modelc.decoder.architectures import ARCHITECTURES
from modelc.quant.algorithms.layer import Floats, Layer


@dataclass(frozen=True)
class Seam:
    """Channels between a norm or a linear layer and the linear layers that alone read them.

    Attributes:
        before: the module that makes the channels: each is a number of a norm's vector, or a row
            of a matrix.
        behind: the modules whose matrices have a column for each.
        repeats, width: of attention: how many heads behind share a key-value head's channels, and
            how many these are; so the columns are `repeats` times as many as the channels.
    """

    before: str
    behind: tuple[str, ...]
    repeats: int = 1
    width: int = 1

    def to_columns(self, channels: Floats) -> Floats:
        """Return what columns have of numbers of channels."""
        heads = channels.reshape(-1, 1, self.width)
        return np.repeat(heads, self.repeats, axis=1).reshape(-1)

    def most_of_columns(self, columns: Floats) -> Floats:
        """Return the largest of the columns of each channel."""
        most: Floats = columns.reshape(-1, self.repeats, self.width).max(axis=1)
        return most.reshape(-1)

    def rows(self, layer: Layer) -> Floats:
        """Return the weights that make the channels, [channels, inputs]; of a norm [channels]."""
        return layer.weights[f"{self.before}.weight"]


def norm_seams(layer: Layer) -> Iterator[Seam]:
    """Yield the seams behind norms: of the last one too, if the head is in the layer."""
    post_norms = ARCHITECTURES[layer.config.architecture].post_norms
    fed = "pre_feedforward_layernorm" if post_norms else "post_attention_layernorm"
    if layer.is_decoder_layer:
        mixers = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        yield Seam(layer.path("input_layernorm"), tuple(map(layer.path, mixers)))
        yield Seam(layer.path(fed), tuple(_fed(layer)))
    elif "lm_head.weight" in layer.weights:
        yield Seam("model.norm", ("lm_head",))


def linear_seams(layer: Layer) -> Iterator[Seam]:
    """Yield the seams between two linear layers, through which a factor goes unchanged: attention
    mixes tokens of a value's channel, the gate only multiplies what `up` makes."""
    config = layer.config
    if layer.is_decoder_layer:
        heads = config.heads // config.kv_heads
        values, out = layer.path("self_attn.v_proj"), layer.path("self_attn.o_proj")
        yield Seam(values, (out,), heads, config.head_dim)
        for module in feed_forwards(layer):
            yield Seam(f"{module}.up_proj", (f"{module}.down_proj",))


def feed_forwards(layer: Layer) -> list[str]:
    """Return the modules that have a gate, an up and a down projection: one, or all experts."""
    experts = layer.experts
    if experts is None:
        return [layer.path("mlp")]
    modules = [layer.path(f"mlp.experts.{expert}") for expert in range(experts.count)]
    return [*modules, *([layer.path("mlp.shared_expert")] if experts.shared_hidden else [])]


def _fed(layer: Layer) -> Iterator[str]:
    """Yield the modules that read what the norm before the feed-forward makes; routers first, which
    see every token."""
    if layer.experts:
        yield layer.path("mlp.gate")
        if layer.experts.shared_hidden:
            yield layer.path("mlp.shared_expert_gate")
    for module in feed_forwards(layer):
        yield f"{module}.gate_proj"
        yield f"{module}.up_proj"


def column_peaks(rows: Floats) -> Floats:
    """Return the largest magnitude of each column."""
    peaks: Floats = np.maximum(rows.max(axis=0), -rows.min(axis=0))
    return peaks


def move_factors(layer: Layer, seam: Seam, factors: Floats) -> None:
    """Divide the channels of a seam by `factors`, and multiply the columns that read them."""
    weights, columns = layer.weights, seam.to_columns(factors)
    rows = seam.rows(layer)
    weights[f"{seam.before}.weight"] = rows / (factors if rows.ndim == 1 else factors[:, None])
    bias = f"{seam.before}.bias"
    if bias in weights:
        weights[bias] = weights[bias] / factors
    for module in seam.behind:
        weights[f"{module}.weight"] = weights[f"{module}.weight"] * columns
    for name in {layer.reads[module] for module in seam.behind} & layer.inputs.keys():
        layer.inputs[name] = layer.inputs[name] / columns

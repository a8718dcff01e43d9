"""Reads a GGUF file's metadata into a `DecoderConfig`, by llama.cpp's conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from modelc.decoder.config import DecoderConfig, Experts
from modelc.errors import BadInput, Where, nearest
from modelc.frontends.fields import Fields
from modelc.frontends.gguf.rope import KEYS as ROPE_KEYS
from modelc.frontends.gguf.rope import read_rope
from modelc.frontends.stored import StoredTensor

MAX_LAYERS, MAX_EXPERTS, MAX_SIZE = 4096, 4096, 1 << 24

# Keys under the architecture's name, beside those of rope.
KEYS: Final = (
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "attention.layer_norm_rms_epsilon", "attention.scale",
    "attention.sliding_window", "attention.sliding_window_pattern",
    "attn_logit_softcapping", "final_logit_softcapping",
    "expert_count", "expert_used_count", "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "tensor_data_layout",  # where the weights came from
)  # fmt: skip

_LAYER: Final[Mapping[str, str]] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_EXPERTS: Final[Mapping[str, str]] = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
}
_SHARED_EXPERT: Final[Mapping[str, str]] = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_HEAD_NORMS: Final[Mapping[str, str]] = {
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
_QKV_BIASES: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


@dataclass(frozen=True)
class GgufArchitecture:
    """One row.

    Attributes:
        permuted: the rows of q and k are interleaved (llama.cpp rotates neighbours there).
        biases: modules that always have one; the others may.
        layer: canonical (or fused) module of each tensor of a layer.
        plain: the canonical architecture of files without experts; "" if there are none.
        experts: that of files with experts; "" if there are none.
        normalise, shared: of the experts.
    """

    permuted: bool = False
    biases: tuple[str, ...] = ()
    layer: Mapping[str, str] = field(default_factory=lambda: _LAYER)
    plain: str = ""
    experts: str = ""
    normalise: bool = True
    shared: bool = False


# Mistral's files say "llama", and Mixtral's too.
ARCHITECTURES: Final[Mapping[str, GgufArchitecture]] = {
    "llama": GgufArchitecture(
        plain="llama", experts="mixtral", permuted=True, layer={**_LAYER, **_EXPERTS}
    ),
    "qwen2": GgufArchitecture(plain="qwen2", biases=_QKV_BIASES),
    "qwen3": GgufArchitecture(plain="qwen3", layer={**_LAYER, **_HEAD_NORMS}),
    "gemma2": GgufArchitecture(
        plain="gemma2",
        layer={
            **_LAYER,
            "post_attention_norm": "post_attention_layernorm",
            "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        },
    ),
    "phi3": GgufArchitecture(
        plain="phi3",
        layer={**_LAYER, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    ),
    "qwen2moe": GgufArchitecture(
        experts="qwen2_moe",
        biases=_QKV_BIASES,
        layer={**_LAYER, **_EXPERTS, **_SHARED_EXPERT},
        normalise=False,
        shared=True,
    ),
    "qwen3moe": GgufArchitecture(experts="qwen3_moe", layer={**_LAYER, **_HEAD_NORMS, **_EXPERTS}),
}


def architecture_of(metadata: Fields) -> str:
    """Return `general.architecture`; BadInput, with the nearest names, if it is unknown."""
    name = metadata.text("general.architecture")
    if name not in ARCHITECTURES:
        raise BadInput(
            f"unknown architecture {name!r}",
            where=Where(path=str(metadata.path)),
            hint=nearest(name, ARCHITECTURES),
        )
    if metadata.integer("split.count", 1) > 1:
        raise BadInput(
            "the model is split over several files",
            where=Where(path=str(metadata.path)),
            hint="join them first: llama-gguf-split --merge FIRST_PART OUTPUT",
        )
    return name


def read_config(metadata: Fields, tensors: Mapping[str, StoredTensor]) -> DecoderConfig:
    """Return the configuration that metadata and tensors describe.

    Raises:
        BadInput: an unknown architecture, or a key that is missing or makes no sense.
    """
    name = architecture_of(metadata)
    fields = metadata.under(f"{name}.")
    fields.only([*KEYS, *(f"rope.{key}" for key in ROPE_KEYS)])
    heads = fields.integer("attention.head_count", low=1, high=MAX_SIZE)
    hidden = fields.integer("embedding_length", low=1, high=MAX_SIZE)
    layers = fields.integer("block_count", low=1, high=MAX_LAYERS)
    head_dim = fields.integer("attention.key_length", hidden // heads, low=1, high=MAX_SIZE)
    if fields.integer("attention.value_length", head_dim) != head_dim:
        raise fields.bad("attention.value_length", f"{head_dim}, as keys are")
    rope = read_rope(fields, head_dim, tensors)
    if rope.dim != head_dim and name != "phi3":
        raise fields.bad("rope.dimension_count", f"{head_dim}, the width of a head")
    longest = fields.integer("context_length", low=1)
    if rope.kind == "yarn":  # some files give the length before scaling
        longest = max(longest, int(rope.original_context * rope.factor))
    gemma = name == "gemma2"
    experts = _experts(fields, ARCHITECTURES[name], layers, tensors)
    return DecoderConfig(
        architecture=ARCHITECTURES[name].experts if experts else ARCHITECTURES[name].plain,
        vocab_size=_vocab_size(metadata, tensors),
        hidden_size=hidden,
        intermediate_size=fields.integer("feed_forward_length", low=1, high=MAX_SIZE),
        layers=layers,
        heads=heads,
        kv_heads=fields.integer("attention.head_count_kv", heads, low=1, high=MAX_SIZE),
        head_dim=head_dim,
        norm_epsilon=fields.number("attention.layer_norm_rms_epsilon"),
        rope=rope,
        max_context=longest,
        windows=_windows(fields, layers, alternating=gemma),
        attention_scale=_attention_scale(fields, hidden / heads, head_dim, gemma27=layers == 46),
        attention_softcap=fields.number("attn_logit_softcapping") if gemma else 0.0,
        logit_softcap=fields.number("final_logit_softcapping") if gemma else 0.0,
        embedding_scale=hidden**0.5 if gemma else 1.0,
        activation="gelu_tanh" if gemma else "silu",
        tied_head="output.weight" not in tensors,
        experts=experts,
    )


def _experts(
    fields: Fields, row: GgufArchitecture, layers: int, tensors: Mapping[str, StoredTensor]
) -> Experts | None:
    """Return the experts, which those layers have that have a router."""
    count = fields.integer("expert_count", 0, high=MAX_EXPERTS)
    if count and not row.experts:
        raise fields.bad("expert_count", "0 in this architecture")
    if not count and not row.plain:
        raise fields.bad("expert_count", "positive")
    if not count:
        return None
    used = fields.integer("expert_used_count", low=1, high=count)
    inner = fields.integer("feed_forward_length", low=1, high=MAX_SIZE)
    # What llama.cpp takes where a file doesn't say.
    own = inner if row.plain else max(inner // used, 1)
    hidden = fields.integer("expert_feed_forward_length", own, low=1, high=MAX_SIZE)
    shared = fields.integer("expert_shared_feed_forward_length", inner if row.shared else 0)
    if bool(shared) != row.shared or shared > MAX_SIZE:
        raise fields.bad(
            "expert_shared_feed_forward_length", "positive" if row.shared else "0 here"
        )
    return Experts(
        count=count,
        used=used,
        hidden=hidden,
        layers=tuple(n for n in range(layers) if f"blk.{n}.ffn_gate_inp.weight" in tensors),
        normalise=row.normalise,
        shared_hidden=shared,
    )


def _vocab_size(metadata: Fields, tensors: Mapping[str, StoredTensor]) -> int:
    """Return the embedding's height; the vocabulary may be shorter."""
    if "token_embd.weight" not in tensors:
        raise BadInput("tensor token_embd.weight is missing", where=Where(path=str(metadata.path)))
    return tensors["token_embd.weight"].shape[0]


def _attention_scale(fields: Fields, width: float, head_dim: int, *, gemma27: bool) -> float:
    """Files of gemma2 don't give the scale; its 27B model, told by its 46 layers, has its own."""
    own = gemma27 and fields.prefix == "gemma2."
    scale = fields.number("attention.scale", (width if own else head_dim) ** -0.5)
    if scale <= 0:
        raise fields.bad("attention.scale", "positive")
    return scale


def _windows(fields: Fields, layers: int, *, alternating: bool) -> tuple[int, ...]:
    """Return each layer's sliding window in positions, 0 for full attention."""
    window = fields.integer("attention.sliding_window", 0)
    if not window:
        if alternating:
            raise fields.bad("attention.sliding_window", "positive")
        return (0,) * layers
    has = [layer % 2 == 0 for layer in range(layers)] if alternating else [True] * layers
    if fields.has("attention.sliding_window_pattern"):
        pattern = fields.values[f"{fields.prefix}attention.sliding_window_pattern"]
        if isinstance(pattern, int) and not isinstance(pattern, bool) and pattern > 0:
            # Every so many layers, the last one sees everything.
            pattern = [layer % pattern < pattern - 1 for layer in range(layers)]
        if (
            not isinstance(pattern, list)
            or len(pattern) != layers
            or not all(isinstance(one, bool) for one in pattern)
        ):
            raise fields.bad("attention.sliding_window_pattern", f"{layers} times true or false")
        has = pattern
    return tuple(window if one else 0 for one in has)

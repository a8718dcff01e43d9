"""Reads a Hugging Face config.json into a `DecoderConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput, Where, nearest
from modelc.frontends.fields import Fields
from modelc.frontends.huggingface.experts import read_experts
from modelc.frontends.huggingface.rope import read_rope

# What transformers assumes where a config.json leaves a key out, by model_type; a key that is
# null there stays null. The class is the only one of its model_type that is a language model.
MODEL_TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "llama": {"class": "LlamaForCausalLM"},
    "mistral": {"class": "MistralForCausalLM", "sliding_window": 4096},
    "qwen2": {"class": "Qwen2ForCausalLM", "sliding_window": 4096, "max_window_layers": 28},
    "qwen3": {
        "class": "Qwen3ForCausalLM",
        "head_dim": 128,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
    "gemma2": {
        "class": "Gemma2ForCausalLM",
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
    },
    "phi3": {"class": "Phi3ForCausalLM", "original_max_position_embeddings": 4096},
    "mixtral": {"class": "MixtralForCausalLM", "rope_theta": 1e6},
    "qwen2_moe": {
        "class": "Qwen2MoeForCausalLM",
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
    "qwen3_moe": {"class": "Qwen3MoeForCausalLM", "sliding_window": 4096},
}

ACTIVATIONS: Final[Mapping[str, Literal["silu", "gelu_tanh", "gelu"]]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}

ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MAX_LAYERS, MAX_SIZE = 4096, 1 << 24


def read_config(given: Fields) -> DecoderConfig:
    """Return the configuration that a config.json describes.

    Raises:
        BadInput: an unknown architecture, or a setting that is missing, makes no sense or asks
            for something that modelc doesn't compute.
    """
    config = _with_defaults(given)
    heads = config.integer("num_attention_heads", low=1, high=MAX_SIZE)
    hidden = config.integer("hidden_size", low=1, high=MAX_SIZE)
    head_dim = config.integer("head_dim", hidden // heads, low=1, high=MAX_SIZE)
    gemma = config.text("model_type") == "gemma2"
    scalar = config.number("query_pre_attn_scalar") if gemma else float(head_dim)
    if scalar <= 0:
        raise config.bad("query_pre_attn_scalar", "positive")
    rope = read_rope(config, head_dim)
    longest = config.integer("max_position_embeddings", low=1)
    if rope.kind == "yarn":  # some files give the length before scaling
        longest = max(longest, int(rope.original_context * rope.factor))
    return DecoderConfig(
        architecture=config.text("model_type"),
        vocab_size=config.integer("vocab_size", low=1, high=MAX_SIZE),
        hidden_size=hidden,
        intermediate_size=config.integer("intermediate_size", low=1, high=MAX_SIZE),
        layers=config.integer("num_hidden_layers", low=1, high=MAX_LAYERS),
        heads=heads,
        kv_heads=config.integer("num_key_value_heads", heads, low=1, high=MAX_SIZE),
        head_dim=head_dim,
        norm_epsilon=config.number("rms_norm_eps"),
        rope=rope,
        max_context=longest,
        windows=_windows(config),
        attention_scale=scalar**-0.5,
        attention_softcap=config.number("attn_logit_softcapping", 0.0) if gemma else 0.0,
        logit_softcap=config.number("final_logit_softcapping", 0.0) if gemma else 0.0,
        embedding_scale=hidden**0.5 if gemma else 1.0,
        activation=config.choice(
            "hidden_activation" if gemma else "hidden_act", ACTIVATIONS, "silu"
        ),
        tied_head=config.boolean("tie_word_embeddings", False),
        experts=read_experts(config),
    )


def read_biases(given: Fields) -> frozenset[str]:
    """Return the modules of a layer that have a bias, by a config.json that `read_config` reads."""
    model_type = given.text("model_type")
    if model_type == "qwen2" or (model_type == "qwen2_moe" and given.boolean("qkv_bias", True)):
        return frozenset(ATTENTION[:3])
    biases: set[str] = set()
    if model_type in ("llama", "qwen3", "qwen3_moe", "gemma2") and given.boolean(
        "attention_bias", False
    ):
        biases |= set(ATTENTION)
    if model_type == "llama" and given.boolean("mlp_bias", False):
        biases |= {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}
    return frozenset(biases)


def _with_defaults(given: Fields) -> Fields:
    name = given.text("model_type")
    if name not in MODEL_TYPES:
        raise BadInput(
            f"unknown architecture {name!r}",
            where=Where(path=str(given.path)),
            hint=nearest(name, MODEL_TYPES),
        )
    defaults = dict(MODEL_TYPES[name])
    expected = defaults.pop("class")
    if given.has("architectures") and given.values["architectures"] != [expected]:
        raise given.bad("architectures", f'["{expected}"]')
    config = Fields({**defaults, **given.values}, given.path)
    if config.boolean("use_bidirectional_attention", False):
        raise config.bad("use_bidirectional_attention", "false: decoders are causal")
    return config


def _windows(config: Fields) -> tuple[int, ...]:
    """Return each layer's sliding window in positions, 0 for full attention."""
    model_type = config.text("model_type")
    layers = config.integer("num_hidden_layers", low=1, high=MAX_LAYERS)
    window = config.integer("sliding_window", 0)
    if model_type == "llama":
        window = 0
    if model_type.startswith("qwen") and not config.boolean("use_sliding_window", False):
        window = 0
    if model_type in ("qwen2", "qwen3"):
        first = config.integer("max_window_layers")
        usual = [window > 0 and layer >= first for layer in range(layers)]
    elif model_type == "qwen2_moe":  # the even ones of the first ones
        last = config.integer("max_window_layers")
        usual = [window > 0 and layer % 2 == 0 and layer < last for layer in range(layers)]
    elif model_type == "gemma2":
        usual = [layer % 2 == 0 for layer in range(layers)]
    else:
        usual = [window > 0] * layers
    windowed = _layer_types(config, layers) or usual
    if any(windowed) and not window:
        raise config.bad("sliding_window", "positive, as some layers have a window")
    if model_type in ("llama", "mistral", "phi3", "mixtral", "qwen3_moe") and windowed != usual:
        raise config.bad("layer_types", f"the same for all layers in {model_type}")
    return tuple(window if has else 0 for has in windowed)


def _layer_types(config: Fields, layers: int) -> list[bool]:
    """Return which layers have a window; [] if config.json doesn't say."""
    if not config.has("layer_types"):
        return []
    kinds = {"full_attention": False, "sliding_attention": True}
    names = config.texts("layer_types")
    if len(names) != layers or not set(names) <= set(kinds):
        raise config.bad("layer_types", f"{layers} times {' or '.join(kinds)}")
    return [kinds[name] for name in names]

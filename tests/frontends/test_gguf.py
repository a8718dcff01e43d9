"""Settings of a GGUF file that are refused, and those that have a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput
from modelc.frontends import read_model, read_source
from modelc.frontends.fields import Fields
from modelc.frontends.gguf.config import read_config
from modelc.frontends.gguf.container import read_container

KEYS: dict[str, Any] = {
    "llama.context_length": 64,
    "llama.embedding_length": 16,
    "llama.block_count": 2,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": ["<unk>", "a"],
    "tokenizer.ggml.scores": [0.0, 0.0],
    "tokenizer.ggml.token_type": [2, 1],
}
LAYER = {
    "attn_norm": (16,), "attn_q": (16, 16), "attn_k": (16, 16), "attn_v": (16, 16),
    "attn_output": (16, 16), "ffn_norm": (16,), "ffn_gate": (32, 16), "ffn_up": (32, 16),
    "ffn_down": (16, 32),
}  # fmt: skip
TENSORS = {
    "token_embd.weight": (4, 16),
    "output_norm.weight": (16,),
    **{f"blk.{i}.{name}.weight": shape for i in range(2) for name, shape in LAYER.items()},
}


def write(
    path: Path, keys: dict[str, Any], tensors: dict[str, Any], architecture: str = "llama"
) -> Path:
    """Write a small llama with some keys and tensors changed, or left out where None."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**KEYS, **keys}.items():
        key = key.replace("llama.", f"{architecture}.", 1) if key in KEYS else key
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, shape in {**TENSORS, **tensors}.items():
        if isinstance(shape, np.ndarray):
            writer.add_tensor(name, shape)
        elif shape is not None:
            writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def config_of(path: Path) -> DecoderConfig:
    """The configuration alone; weights and tokenizer need not fit it."""
    container = read_container(path)
    return read_config(Fields(container.metadata, path), container.tensors)


def test_a_yarn_context_is_the_longer_of_what_two_keys_say(tmp_path: Path) -> None:
    keys = {
        "llama.rope.scaling.type": "yarn",
        "llama.rope.scaling.factor": 4.0,
        "llama.rope.scaling.original_context_length": 64,
    }
    for given, expected in ((64, 256), (512, 512)):
        path = write(tmp_path / f"{given}.gguf", {**keys, "llama.context_length": given}, {})
        assert config_of(path).max_context == expected


def test_gemma2_of_46_layers_scales_by_its_width(tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "gemma2.attention.key_length": 4,
        "gemma2.attention.value_length": 4,
        "gemma2.attention.sliding_window": 8,
        "gemma2.attn_logit_softcapping": 50.0,
        "gemma2.final_logit_softcapping": 30.0,
    }
    for layers, divisor in ((42, 4), (46, 8)):  # head_dim; hidden size / heads
        given = {**keys, "llama.block_count": layers}
        config = config_of(write(tmp_path / f"{layers}.gguf", given, {}, "gemma2"))
        assert config.attention_scale == divisor**-0.5


def test_the_model_alone_is_that_of_the_source(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {}, {})
    model, source = read_model(path), read_source(path)
    assert (model.config, model.weights) == (source.config, source.weights)
    broken = write(tmp_path / "t.gguf", {"tokenizer.ggml.tokens": None}, {})
    assert read_model(broken).config == model.config  # the tokenizer is not looked at
    with pytest.raises(BadInput):
        read_source(broken)


def test_defaults(tmp_path: Path) -> None:
    config = read_source(write(tmp_path / "m.gguf", {}, {})).config
    assert (config.kv_heads, config.head_dim, config.vocab_size) == (2, 8, 4)
    assert (config.rope.kind, config.rope.theta, config.rope.dim) == ("default", 10000.0, 8)
    assert config.tied_head
    assert config.windows == (0, 0)


FOUR = np.ones(4, np.float32)
ROPE_KINDS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"scaling.type": "none", "scaling.factor": 4.0}, {}, {"kind": "default"}),
    ({"scaling.factor": 4.0}, {}, {"kind": "linear", "factor": 4.0}),
    ({"scaling.type": "linear", "scaling.factor": 1.0}, {}, {"kind": "default"}),
    (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.yarn_beta_slow": 2.0},
        {},
        {"kind": "yarn", "factor": 4.0, "original_context": 64, "beta_slow": 2.0},
    ),
    (
        {"scaling.type": "yarn", "scaling.factor": 4.0, "scaling.attn_factor": 2.0},
        {},
        {"kind": "yarn", "attention_factor": pytest.approx(2 * (1 + 0.1 * np.log(4)))},
    ),
    ({}, {"rope_freqs": 2 * FOUR}, {"kind": "llama3", "frequency_divisors": (2.0,) * 4}),
    (
        {"scaling.original_context_length": 16},
        {"rope_factors_long": 3 * FOUR, "rope_factors_short": FOUR},
        {
            "kind": "longrope",
            "factor": 4.0,
            "attention_factor": 1.0,
            "short_factors": (1.0,) * 4,
            "long_factors": (3.0,) * 4,
        },
    ),
]


@pytest.mark.parametrize(("keys", "tensors", "expected"), ROPE_KINDS)
def test_rope(
    keys: dict[str, Any], tensors: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    keys = {f"llama.rope.{key}": value for key, value in keys.items()}
    tensors = {f"{name}.weight": value for name, value in tensors.items()}
    rope = read_source(write(tmp_path / "m.gguf", keys, tensors)).config.rope
    assert {name: getattr(rope, name) for name in expected} == expected


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "rope scaling": ({"llama.rope.scaling.type": "ntk"}, {}, "scaling.type is 'ntk'"),
    "rope key": ({"llama.rope.scale_linear": 2.0}, {}, "unknown setting llama.rope.scale_linear"),
    "another key": ({"llama.residual_scale": 2.0}, {}, "unknown setting llama.residual_scale"),
    "ext_factor": (
        {
            "llama.rope.scaling.type": "yarn",
            "llama.rope.scaling.factor": 2.0,
            "llama.rope.scaling.yarn_ext_factor": 0.5,
        },
        {},
        "yarn_ext_factor is 0.5",
    ),
    "yarn without factor": ({"llama.rope.scaling.type": "yarn"}, {}, "factor is missing"),
    "attn_factor alone": ({"llama.rope.scaling.attn_factor": 2.0}, {}, "attn_factor is 2.0"),
    "linear and rope_freqs": (
        {"llama.rope.scaling.factor": 4.0},
        {"rope_freqs.weight": (4,)},
        "llama3 rope scaling, other settings for linear",
    ),
    "one of two longrope tensors": (
        {},
        {"rope_factors_long.weight": (4,)},
        "rope_factors_short.weight is missing",
    ),
    "longrope without tensors": ({"llama.rope.scaling.type": "longrope"}, {}, "is missing"),
    "rope_freqs in a matrix": ({}, {"rope_freqs.weight": (4, 4)}, "F32 [4, 4]"),
    "partial rope": ({"llama.rope.dimension_count": 4}, {}, "dimension_count is 4"),
    "head_count": ({"llama.attention.head_count": 0}, {}, "head_count is 0"),
    "no head_count": ({"llama.attention.head_count": None}, {}, "head_count is missing"),
    "head_count by layer": ({"llama.attention.head_count": [2, 2]}, {}, "head_count is [2, 2]"),
    "head_count is a truth": ({"llama.attention.head_count": True}, {}, "head_count is True"),
    "layers": ({"llama.block_count": 1 << 31}, {}, "block_count is 2147483648"),
    "kv heads": ({"llama.attention.head_count_kv": 3}, {}, "makes no sense: heads 2, kv_heads 3"),
    "value length": ({"llama.attention.value_length": 4}, {}, "value_length is 4"),
    "epsilon": (
        {"llama.attention.layer_norm_rms_epsilon": float("nan")},
        {},
        "layer_norm_rms_epsilon is nan",
    ),
    "window pattern": (
        {
            "llama.attention.sliding_window": 8,
            "llama.attention.sliding_window_pattern": [True, False, True],
        },
        {},
        "sliding_window_pattern is",
    ),
    "split": ({"split.count": 2}, {}, "split over several files"),
    "no tokenizer": ({"tokenizer.ggml.model": None}, {}, "no tokenizer"),
    "no embedding": ({}, {"token_embd.weight": None}, "token_embd.weight is missing"),
    "a weight is missing": ({}, {"blk.1.ffn_up.weight": None}, "no weight model.layers.1.mlp.up"),
    "a layer too few": ({"llama.block_count": 3}, {}, "no weight model.layers.2"),
    "a layer too many": ({"llama.block_count": 1}, {}, "no weight model.layers.1"),
    "a weight of another size": ({}, {"blk.1.ffn_up.weight": (16, 16)}, "is [16, 16], not [32,"),
    "experts": ({}, {"blk.0.ffn_gate_exps.weight": (2, 32, 16)}, "'blk.0.ffn_gate_exps.weight'"),
    "a matrix of three dimensions": ({}, {"blk.0.ffn_up.weight": (1, 32, 16)}, "[1, 32, 16]"),
    "a bias in one layer": ({}, {"blk.0.attn_q.bias": (16,)}, "1.self_attn.q_proj.bias' is"),
    "a norm's bias": (
        {},
        {"blk.0.attn_norm.bias": (16,), "blk.1.attn_norm.bias": (16,)},
        "has no weight model.layers.0.input_layernorm.bias",
    ),
    "a layer's other name": ({}, {"blk.00.attn_q.weight": (16, 16)}, "'blk.00.attn_q.weight'"),
    "integers": ({}, {"blk.0.ffn_up.weight": np.ones((32, 16), np.int32)}, "has the type I32"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str, tmp_path: Path) -> None:
    keys, tensors, message = REFUSED[what]
    path = write(tmp_path / "m.gguf", keys, tensors)
    with pytest.raises(BadInput) as caught:
        read_source(path)
    assert message in caught.value.message
    assert caught.value.where.path == str(path)


def test_unknown_type_names_the_tensor_and_the_known_types(tmp_path: Path) -> None:
    raw = np.zeros((32, 66), np.uint8)
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key in ("context_length", "embedding_length", "feed_forward_length"):
        writer.add_uint32(f"llama.{key}", 256)
    writer.add_uint32("llama.block_count", 1)
    writer.add_uint32("llama.attention.head_count", 4)
    writer.add_layer_norm_rms_eps(1e-5)
    kind = gguf.GGMLQuantizationType.IQ2_XXS
    writer.add_tensor("token_embd.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadInput, match=r"'token_embd.weight' has the type IQ2_XXS") as caught:
        read_source(path)
    assert "Q4_K" in caught.value.hint


def test_unknown_architecture_names_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {}, {}, architecture="qwen2vl")
    with pytest.raises(BadInput, match="unknown architecture 'qwen2vl'") as caught:
        read_source(path)
    assert "qwen2" in caught.value.hint


def test_qwen2_needs_its_biases(tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", {}, {}, architecture="qwen2")
    with pytest.raises(BadInput, match=r"self_attn.k_proj.bias' is missing"):
        read_source(path)


@pytest.mark.parametrize(
    ("pattern", "windows"),
    [(None, (8, 8)), (2, (8, 0)), ([False, True], (0, 8))],
)
def test_windows(pattern: Any, windows: tuple[int, ...], tmp_path: Path) -> None:
    keys = {
        "llama.attention.sliding_window": 8,
        "llama.attention.sliding_window_pattern": pattern,
    }
    assert read_source(write(tmp_path / "m.gguf", keys, {})).config.windows == windows

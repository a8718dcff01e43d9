"""Both frontends against transformers: every architecture, every rope kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gguf
import numpy as np
import pytest
from support import random_models

from modelc.decoder.rope import attention_factor, frequencies
from modelc.frontends import describe, detect, read_source, source_files
from modelc.ir.stored import BLOCKS, tensor_shape


def expected_weights(identity: str) -> dict[str, np.ndarray]:
    """The weights of transformers' own model, fused ones cut as its forward pass cuts them."""
    model = random_models.model(identity)
    config = model.config
    weights = {}
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if config.model_type == "gemma2" and name.endswith("norm.weight"):
            values = values + np.float32(1)
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "qkv_proj" in name:
            keys = config.num_key_value_heads * random_models.HEAD_DIM
            queries = config.num_attention_heads * random_models.HEAD_DIM
            for part, rows in zip("qkv", np.split(values, [queries, queries + keys]), strict=True):
                weights[name.replace("qkv_proj", f"{part}_proj")] = rows
        elif ".mlp.experts." in name:  # of all experts
            names = ("gate_proj", "up_proj") if "gate_up" in name else ("down_proj",)
            module = name.rpartition(".")[0]
            for expert, matrix in enumerate(values):
                for part, rows in zip(names, np.split(matrix, len(names)), strict=True):
                    weights[f"{module}.{expert}.{part}.weight"] = rows
        elif "gate_up_proj" in name:
            for part, rows in zip(("gate", "up"), np.split(values, 2), strict=True):
                weights[name.replace("gate_up", part)] = rows
        else:
            weights[name] = values
    return weights


@pytest.mark.parametrize("identity", random_models.IDS)
def test_folder_weights_are_those_of_transformers(identity: str, folder_of: Any) -> None:
    found = read_source(folder_of(identity)).weights
    expected = expected_weights(identity)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].decode(), values, err_msg=name)


@pytest.mark.parametrize("identity", random_models.GGUF_IDS)
def test_gguf_weights_are_those_of_transformers(identity: str, gguf_of: Any) -> None:
    found = read_source(gguf_of(identity)).weights
    expected = expected_weights(identity)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].decode(), values, err_msg=name)


@pytest.mark.parametrize("identity", random_models.GGUF_IDS)
def test_gguf_and_folder_agree(identity: str, folder_of: Any, gguf_of: Any) -> None:
    folder, file = read_source(folder_of(identity)), read_source(gguf_of(identity))
    ours, theirs = folder.config, file.config
    for context in (64, 256):  # below and above the original context
        np.testing.assert_allclose(
            frequencies(theirs.rope, context), frequencies(ours.rope, context), rtol=1e-6
        )
    assert attention_factor(theirs.rope, theirs.max_context) == pytest.approx(
        attention_factor(ours.rope, ours.max_context)
    )
    assert theirs.norm_epsilon == pytest.approx(ours.norm_epsilon)
    assert theirs.attention_scale == pytest.approx(ours.attention_scale)
    same = replace(
        theirs,
        rope=ours.rope,
        norm_epsilon=ours.norm_epsilon,
        attention_scale=ours.attention_scale,
        architecture="mistral" if ours.architecture == "mistral" else theirs.architecture,
    )
    assert same == ours
    assert replace(file.tokenizer, json="") == replace(folder.tokenizer, json="")


@pytest.mark.parametrize("identity", random_models.IDS)
def test_windows_and_scales_are_those_of_transformers(identity: str, folder_of: Any) -> None:
    config = read_source(folder_of(identity)).config
    model = random_models.model(identity)
    attentions = [layer.self_attn for layer in model.model.layers]
    # Where layers differ, some have no such attribute.
    whole = getattr(model.config, "sliding_window", None)
    usual = None if model.config.model_type == "qwen2_moe" else whole
    windows = (
        [getattr(one, "sliding_window", usual) or 0 for one in attentions]
        if hasattr(model.config, "sliding_window")
        else [0, 0]
    )
    assert list(config.windows) == windows
    assert config.attention_scale == pytest.approx(attentions[0].scaling)
    assert config.head_dim == attentions[0].head_dim
    rotary = model.model.rotary_emb
    np.testing.assert_allclose(frequencies(config.rope, 64), rotary.inv_freq.numpy(), rtol=1e-5)
    assert attention_factor(config.rope, config.max_context) == pytest.approx(
        rotary.attention_scaling
    )


@pytest.mark.parametrize("quant", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
@pytest.mark.parametrize("identity", ["llama", "phi3"])
def test_quantised_rows_stay_quantised(identity: str, quant: str, gguf_of: Any) -> None:
    found = read_source(gguf_of(identity, quant)).weights
    kind = gguf.GGMLQuantizationType[quant]
    for name, values in expected_weights(identity).items():
        if values.ndim == 1:
            assert found[name].format == "F32"
            continue
        assert found[name].format == quant
        # Quantising goes row by row, so it commutes with moving and cutting rows.
        blocks = gguf.quants.quantize(values, kind)
        np.testing.assert_array_equal(found[name].decode(), gguf.quants.dequantize(blocks, kind))
        np.testing.assert_array_equal(found[name].blocks(), blocks.view(np.uint8))


@pytest.mark.parametrize("format", BLOCKS)
def test_every_block_type(format: str, tmp_path: Any) -> None:
    kind = gguf.GGMLQuantizationType[format]
    random = np.random.default_rng(0)
    hidden, heads, vocab = 256, 4, 300
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "a"])
    writer.add_token_scores([0.0, 0.0])
    writer.add_token_types([2, 1])
    raw = {}
    block, size = BLOCKS[format]
    matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    for name, rows in [("token_embd", vocab), *((f"blk.0.{one}", hidden) for one in matrices)]:
        raw[name] = random.integers(0, 60, (rows, hidden // block * size), np.uint8)
        writer.add_tensor(f"{name}.weight", raw[name], raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    weights = read_source(path).weights
    values = gguf.quants.dequantize(raw["token_embd"], kind)
    np.testing.assert_array_equal(weights["model.embed_tokens.weight"].decode(), values)
    values = gguf.quants.dequantize(raw["blk.0.attn_q"], kind)
    halves = values.reshape(heads, hidden // heads // 2, 2, hidden).swapaxes(1, 2)
    query = weights["model.layers.0.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(query.decode(), halves.reshape(hidden, hidden))


def test_describe_and_files(folder_of: Any, gguf_of: Any) -> None:
    folder, file = folder_of("phi3"), gguf_of("phi3", "Q8_0")
    assert (detect(folder), detect(file)) == ("huggingface", "gguf")
    assert source_files(file) == (file,)
    names = {path.name for path in source_files(folder)}
    assert names == {path.name for path in folder.iterdir()}

    said = describe(file)
    assert said.metadata["general.architecture"] == "phi3"
    assert said.metadata["tokenizer.ggml.tokens"] == "384 values"
    reader = gguf.GGUFReader(file)
    assert [(t.name, t.format, t.shape, t.offset, t.size) for t in said.tensors] == [
        (t.name, t.tensor_type.name, tuple(map(int, t.shape[::-1])), t.data_offset, t.n_bytes)
        for t in sorted(reader.tensors, key=lambda t: t.data_offset)
    ]
    said = describe(folder)
    assert said.metadata["model_type"] == "phi3"
    state = random_models.model("phi3").state_dict()
    assert {t.name: t.shape for t in said.tensors} == {
        name: tuple(tensor.shape) for name, tensor in state.items()
    }
    assert {t.format for t in said.tensors} == {"F32"}


def test_weights_have_the_sizes_of_the_configuration(gguf_of: Any) -> None:
    source = read_source(gguf_of("llama-head_dim"))
    config = source.config
    shape = tensor_shape(source.weights["model.layers.1.self_attn.k_proj.weight"])
    assert shape == (config.kv_heads * config.head_dim, config.hidden_size) == (64, 64)
    shape = tensor_shape(source.weights["model.layers.1.self_attn.o_proj.weight"])
    assert shape == (config.hidden_size, config.heads * config.head_dim) == (64, 128)

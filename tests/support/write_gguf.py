"""Writes a GGUF file from a Hugging Face folder, following llama.cpp's conversion conventions.

It shares nothing with the frontend that it tests: names come from the `gguf` package's own map,
configurations from transformers.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import gguf
import numpy as np

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "mixtral": gguf.MODEL_ARCH.LLAMA,
    "qwen2_moe": gguf.MODEL_ARCH.QWEN2MOE,
    "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE,
}
# llama.cpp computes this, and no file says otherwise.
NORMALISED = {"mixtral": True, "qwen2_moe": False, "qwen3_moe": True}


def write_gguf(
    folder: Path, path: Path, quant: str = "F32", pre: str = "gpt-2", together: bool = True
) -> Path:
    """Write `folder`'s model to `path`; matrices in format `quant`, vectors and routers in F32.

    `pre` names the pre-tokenizer of a byte-level BPE tokenizer; unless `together`, each expert's
    matrices are tensors of their own, as in Mixtral's first files. Raises ValueError for what a
    GGUF can't express.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    add_sizes(writer, config)
    add_experts(writer, config)
    add_rope(writer, config)
    add_tokenizer(writer, folder, config.vocab_size, pre)
    kind = gguf.GGMLQuantizationType[quant]
    add_weights(writer, folder, config, architecture, kind, together)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def add_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if head_dim(config) * config.num_attention_heads != config.hidden_size:
        writer.add_key_length(head_dim(config))
        writer.add_value_length(head_dim(config))
    windowed = [kind == "sliding_attention" for kind in getattr(config, "layer_types", None) or []]
    window = getattr(config, "sliding_window", None)
    if window and (any(windowed) or not windowed):
        writer.add_sliding_window(window)
        if windowed and config.model_type != "gemma2":
            writer.add_array(f"{writer.arch}.attention.sliding_window_pattern", windowed)
    elif config.model_type == "phi3":
        writer.add_sliding_window(0)
    if config.model_type == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
        if config.query_pre_attn_scalar != head_dim(config):
            writer.add_attention_scale(config.query_pre_attn_scalar**-0.5)


def add_experts(writer: gguf.GGUFWriter, config: Any) -> None:
    if config.model_type not in NORMALISED:
        return
    if getattr(config, "norm_topk_prob", True) != NORMALISED[config.model_type]:
        raise ValueError("a GGUF can't express norm_topk_prob")
    if getattr(config, "mlp_only_layers", []):
        raise ValueError("llama.cpp wants experts in every layer")
    writer.add_expert_count(getattr(config, "num_experts", None) or config.num_local_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    if config.model_type != "mixtral":
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if config.model_type == "qwen2_moe":
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)


def add_rope(writer: gguf.GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    dim = int(head_dim(config) * rope.get("partial_rotary_factor", 1.0))
    writer.add_rope_dimension_count(dim)
    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    original = rope.get("original_max_position_embeddings")
    if config.model_type == "phi3":
        writer.add_rope_scaling_orig_ctx_len(original or config.original_max_position_embeddings)
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        add_yarn(writer, rope)
    elif kind == "longrope":
        scale = rope.get("factor") or config.max_position_embeddings / original
        own = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
        writer.add_rope_scaling_attn_factors(rope.get("attention_factor") or own)
        if config.model_type != "phi3":  # phi3 files show it by their tensors alone
            writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
            writer.add_rope_scaling_orig_ctx_len(original)
        for name in ("long", "short"):
            factors = np.array(rope[f"{name}_factor"], np.float32)
            writer.add_tensor(f"rope_factors_{name}.weight", factors)
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_divisors(rope, dim))
    elif kind != "default":
        raise ValueError(kind)


def add_yarn(writer: gguf.GGUFWriter, rope: dict[str, Any]) -> None:
    if not rope.get("truncate", True):
        raise ValueError("a GGUF can't express truncate = false")
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if "beta_fast" in rope:
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
    total = rope.get("attention_factor")
    if "mscale" in rope:
        logarithm = 0.1 * math.log(rope["factor"])
        total = (logarithm * rope["mscale"] + 1) / (logarithm * rope["mscale_all_dim"] + 1)
    if total is not None:
        writer.add_rope_scaling_yarn_attn_factor(total)


def llama3_divisors(rope: dict[str, Any], dim: int) -> np.ndarray:
    """What divides each inverse frequency in Llama 3.1."""
    frequencies = rope["rope_theta"] ** -(np.arange(0, dim, 2) / dim)
    wavelengths = 2 * np.pi / frequencies
    original, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def add_weights(
    writer: gguf.GGUFWriter,
    folder: Path,
    config: Any,
    architecture: gguf.MODEL_ARCH,
    quant: Any,
    together: bool,
) -> None:
    from safetensors.torch import load_file

    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    tensors: dict[str, Any] = {}
    for part in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(part)
    arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    for name, values in (stack_experts(arrays) if together else arrays).items():
        if architecture is gguf.MODEL_ARCH.LLAMA and ".q_proj." in name:
            values = permute(values, config.num_attention_heads)
        if architecture is gguf.MODEL_ARCH.LLAMA and ".k_proj." in name:
            values = permute(values, config.num_key_value_heads)
        if config.model_type == "gemma2" and name.endswith("norm.weight"):
            values = values + np.float32(1)
        stored = names.get_name(name, try_suffixes=(".weight", ".bias")) or of_expert(name)
        assert stored, name
        values = values.squeeze()  # the gate of a shared expert has one row
        if values.ndim == 1 or stored.endswith("ffn_gate_inp.weight"):
            writer.add_tensor(stored, values.astype(np.float32))
        else:
            writer.add_tensor(stored, gguf.quants.quantize(values, quant), raw_dtype=quant)


OF_EXPERT = re.compile(r"(model\.layers\.(\d+)\.(?:block_sparse_moe|mlp)\.experts)\.(\d+)\.(.+)")
MIXTRAL = {"w1.weight": "gate", "w2.weight": "down", "w3.weight": "up"}


def stack_experts(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Put the matrices of all experts of a layer into one, under the name of their module."""
    stacked: dict[str, dict[int, np.ndarray]] = {}
    rest = {}
    for name, values in arrays.items():
        if found := OF_EXPERT.fullmatch(name):
            stacked.setdefault(f"{found[1]}.{found[4]}", {})[int(found[3])] = values
        else:
            rest[name] = values
    for name, rows in stacked.items():
        module, _, which = name.partition(".experts.")
        which = f"{MIXTRAL[which]}_proj.weight" if which in MIXTRAL else which
        module = module.replace("block_sparse_moe", "mlp")
        rest[f"{module}.experts.{which}"] = np.stack([rows[n] for n in sorted(rows)])
    return rest


def of_expert(name: str) -> str | None:
    """The name of one of Mixtral's matrices in its first GGUF files."""
    found = OF_EXPERT.fullmatch(name)
    return f"blk.{found[2]}.ffn_{MIXTRAL[found[4]]}.{found[3]}.weight" if found else None


def permute(values: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp interleaves the two rotary halves of each head's rows."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path, vocab_size: int, pre: str) -> None:
    """Write a byte-level BPE tokenizer ("gpt2") or one with byte fallback ("llama")."""
    document = json.loads((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    vocab: dict[str, int] = document["model"]["vocab"]
    added = {token["content"]: token for token in document["added_tokens"]}
    by_id = {index: token for token, index in vocab.items()}
    by_id |= {token["id"]: token["content"] for token in document["added_tokens"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in document["model"]["merges"]]
    fallback = document["model"]["byte_fallback"]

    tokens, types = [], []
    for index in range(vocab_size):
        token = by_id.get(index, f"[PAD{index}]")
        tokens.append(token)
        if index not in by_id:
            types.append(gguf.TokenType.UNUSED)
        elif fallback and token == document["model"]["unk_token"]:
            types.append(gguf.TokenType.UNKNOWN)
        elif token in added:
            special = added[token]["special"]
            types.append(gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED)
        elif fallback and len(token) == 6 and token.startswith("<0x"):
            types.append(gguf.TokenType.BYTE)
        else:
            types.append(gguf.TokenType.NORMAL)

    writer.add_tokenizer_model("llama" if fallback else "gpt2")
    writer.add_tokenizer_pre("default" if fallback else pre)
    writer.add_token_list(tokens)
    if fallback:
        ranks = {merge.replace(" ", ""): rank for rank, merge in reversed([*enumerate(merges)])}
        writer.add_token_scores([-float(ranks.get(token, 1000000)) for token in tokens])
        prefix = "Prepend" in json.dumps(document["normalizer"])
        prefix |= '"prepend_scheme": "first"' in json.dumps(document["pre_tokenizer"])
        writer.add_add_space_prefix(prefix)
    else:
        writer.add_token_merges(merges)
    writer.add_token_types(types)
    ids = {token: index for index, token in by_id.items()}
    for key, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("pad_token", writer.add_pad_token_id),
        ("unk_token", writer.add_unk_token_id),
    ):
        token = settings.get(key)
        token = token["content"] if isinstance(token, dict) else token
        if token:
            add(ids[token])
    writer.add_add_bos_token("TemplateProcessing" in json.dumps(document["post_processor"]))
    template = folder / "chat_template.jinja"
    if template.exists():
        writer.add_chat_template(template.read_text())

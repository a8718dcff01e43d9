"""Write a Hugging Face folder of llama or qwen3 as a GGUF file, as llama.cpp's converter does.

    python gguf_file.py FOLDER FILE.gguf --kind f32|f16|q8_0|q4_0 [--name NAME] [--size LABEL]

Rows of llama's q and k are permuted (rotation of neighbouring pairs), norms are F32; embedding and
head of a q4_0 file are Q8_0. Needs gguf and safetensors.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file

KINDS = gguf.GGMLQuantizationType
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen3": gguf.MODEL_ARCH.QWEN3}


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of q or k from halves (Hugging Face) to neighbouring pairs (llama.cpp)."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


def add_hparams(writer: gguf.GGUFWriter, config: dict, name: str, size: str) -> None:
    """Write the ``general.*`` keys and those of the architecture."""
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_basename(name)
    writer.add_size_label(size)
    writer.add_license("cc0-1.0")
    writer.add_description("A small decoder trained on the King James Version of the Bible")
    writer.add_languages(["en"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path) -> None:
    """Write the ``tokenizer.*`` keys from ``tokenizer.json`` and ``tokenizer_config.json``."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    bos, eos = config["bos_token"], config["eos_token"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    types = [gguf.TokenType.CONTROL if t in (bos, eos) else gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(vocabulary[bos])
    writer.add_eos_token_id(vocabulary[eos])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(config["chat_template"])


def write_gguf(folder: Path, path: Path, kind: str, name: str, size: str) -> None:
    """Write the model in ``folder`` to one GGUF file; its matrices are of a ``kind``."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architecture = ARCHITECTURES[config["model_type"]]
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    turned = {}
    if architecture is gguf.MODEL_ARCH.LLAMA:
        turned["q_proj.weight"] = config["num_attention_heads"]
        turned["k_proj.weight"] = config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    add_hparams(writer, config, name, size)
    writer.add_file_type(FILE_TYPES[kind])
    add_tokenizer(writer, folder)
    for stored_name, stored in load_file(folder / "model.safetensors").items():
        target = names.get_name(stored_name, try_suffixes=(".weight",))
        weight = stored.astype(np.float32)
        suffix = ".".join(stored_name.split(".")[-2:])
        if suffix in turned:
            weight = permute(weight, turned[suffix])
        if weight.ndim == 1:
            how = KINDS.F32
        elif kind == "q4_0" and target in ("token_embd.weight", "output.weight"):
            how = KINDS.Q8_0
        else:
            how = KINDS[kind.upper()]
        writer.add_tensor(target, gguf.quants.quantize(weight, how), raw_dtype=how)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kind", choices=FILE_TYPES, default="f16")
    parser.add_argument("--name", help="the folder's own if left out")
    parser.add_argument("--size", default="", help="parameters, as people say them")
    options = parser.parse_args()
    name = options.name or options.folder.resolve().name
    write_gguf(options.folder, options.file, options.kind, name, options.size)


if __name__ == "__main__":
    main()

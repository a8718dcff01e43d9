"""A random Llama as a Hugging Face folder with fp16 safetensors.

python benchmarks/random_folder.py {toy,200m,1b,8b} [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
from random_models import (
    BLOCK,
    ROPE_FASTEST,
    ROPE_ORIGINAL,
    ROPE_SLOWEST,
    SHAPES,
    SPECIAL,
    RandomBlocks,
    Shape,
    default_folder,
    vocabulary,
    weights,
)

CHUNK_ROWS: Final = 4096


def make(folder: Path, size: str) -> Path:
    """Return a model's folder, made now if it is not there; `size` is a key of `SHAPES`."""
    path = folder / f"random-{size}-f16"
    if path.exists():
        return path
    partial = path.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shape = SHAPES[size]
    _write_tensors(partial / "model.safetensors", shape)
    (partial / "config.json").write_text(json.dumps(_config(shape), indent=1))
    (partial / "tokenizer.json").write_text(json.dumps(_tokenizer(shape), ensure_ascii=False))
    special = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "add_bos_token": False}
    (partial / "tokenizer_config.json").write_text(json.dumps(special))
    return partial.rename(path)


def _write_tensors(path: Path, shape: Shape) -> None:
    """Write some rows of one tensor after the other, all as F16."""
    header: dict[str, Any] = {}
    end = 0
    for weight in weights(shape):
        first, end = end, end + 2 * math.prod(weight.shape)
        header[weight.name] = {
            "dtype": "F16",
            "shape": weight.shape,
            "data_offsets": [first, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = RandomBlocks()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for weight in weights(shape):
            if len(weight.shape) == 1:
                stream.write(random.norm(weight).astype(np.float16).tobytes())
                continue
            pool = random.blocks(weight.deviation).astype(np.float16).view(f"V{2 * BLOCK}")
            places = random.places(weight.shape)
            for row in range(0, len(places), CHUNK_ROWS):
                stream.write(pool[places[row : row + CHUNK_ROWS], 0].tobytes())


def _config(shape: Shape) -> dict[str, Any]:
    scaling = {
        "rope_type": "llama3",
        "factor": shape.rope_factor,
        "low_freq_factor": ROPE_SLOWEST,
        "high_freq_factor": ROPE_FASTEST,
        "original_max_position_embeddings": ROPE_ORIGINAL,
    }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.rope_theta,
        "rope_scaling": scaling if shape.rope_factor else None,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": shape.bos,
        "eos_token_id": shape.eos,
        "torch_dtype": "float16",
    }


def _tokenizer(shape: Shape) -> dict[str, Any]:
    tokens, merges = vocabulary(shape)
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": tokens.index(token), "content": token, "special": True, **plain}
            for token in SPECIAL
        ],
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": merges,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    print(make(options.folder, options.size))


if __name__ == "__main__":
    main()

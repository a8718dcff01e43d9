"""A random Llama as one GGUF file.

python benchmarks/random_gguf.py {toy,200m,1b,8b} [--kind Q4_0] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import gguf
import numpy as np
from random_models import (
    BLOCK,
    SHAPES,
    SPECIAL,
    RandomBlocks,
    Shape,
    default_folder,
    rope_divisors,
    vocabulary,
    weights,
)

FILE_TYPES: Final = {"F16": 1, "Q4_0": 2, "Q8_0": 7}
Quantise = Callable[[Path, Path, str], None]


def make(folder: Path, kind: str, quantise: Quantise | None = None, size: str = "200m") -> Path:
    """Return a model's file, made now if it is not there.

    Args:
        kind: a key of FILE_TYPES, or one that only llama.cpp makes, such as Q4_K_M.
        quantise: called with (F16 file, new file, kind) for those.
        size: a key of `SHAPES`.

    Raises:
        ValueError: a kind that nobody here can make.
    """
    path = folder / f"random-{size}-{kind.lower()}.gguf"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    if kind in FILE_TYPES:
        _write(partial, SHAPES[size], kind)
    elif quantise is None:
        raise ValueError(f"only llama.cpp makes {kind}")
    else:
        quantise(make(folder, "F16", size=size), partial, kind)
    return partial.rename(path)


def _write(path: Path, shape: Shape, kind: str) -> None:
    """Write one tensor after the other; the largest one is in memory."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_sizes(writer, shape)
    writer.add_file_type(FILE_TYPES[kind])
    _add_tokenizer(writer, shape)
    type = gguf.GGMLQuantizationType[kind]
    elements, size = gguf.GGML_QUANT_SIZES[type]
    block_bytes = BLOCK // elements * size
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    f32, raw = np.dtype(np.float32), np.dtype(np.uint8)
    if shape.rope_factor:
        writer.add_tensor_info("rope_freqs.weight", (shape.head_dim // 2,), f32, shape.head_dim * 2)
    for weight in weights(shape):
        name = names.get_name(weight.name, (".weight",))
        assert name is not None
        if len(weight.shape) == 1:
            writer.add_tensor_info(name, weight.shape, f32, weight.shape[0] * 4)
        else:
            row_bytes = weight.shape[1] // BLOCK * block_bytes
            packed = (weight.shape[0], row_bytes)
            writer.add_tensor_info(name, packed, raw, weight.shape[0] * row_bytes, type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if shape.rope_factor:
        writer.write_tensor_data(rope_divisors(shape))
    random = RandomBlocks()

    @cache  # few deviations, many matrices
    def pool(deviation: float) -> np.ndarray:
        blocks = gguf.quants.quantize(random.blocks(deviation), type)
        return blocks.view(np.uint8).view(f"V{block_bytes}")[:, 0]

    for weight in weights(shape):
        if len(weight.shape) == 1:
            writer.write_tensor_data(random.norm(weight))
        else:
            drawn = pool(weight.deviation)[random.places(weight.shape)]
            writer.write_tensor_data(drawn.view(np.uint8))
    writer.close()


def _add_sizes(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab)


def _add_tokenizer(writer: gguf.GGUFWriter, shape: Shape) -> None:
    tokens, merges = vocabulary(shape)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_token_types([1] * (shape.vocab - len(SPECIAL)) + [3] * len(SPECIAL))
    writer.add_bos_token_id(shape.bos)
    writer.add_eos_token_id(shape.eos)
    writer.add_add_bos_token(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("size", choices=SHAPES)
    parser.add_argument("--kind", choices=FILE_TYPES, default="Q4_0")
    parser.add_argument("--folder", type=Path, default=default_folder())
    options = parser.parse_args()
    print(make(options.folder, options.kind, size=options.size))


if __name__ == "__main__":
    main()

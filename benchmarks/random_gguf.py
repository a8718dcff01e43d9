"""A Llama of 200 million random parameters as GGUF, with a tokenizer that can be read.

Random weights run as fast as trained ones, and no download is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import platformdirs

LAYERS: Final = 12
HIDDEN: Final = 1024
FEED_FORWARD: Final = 2816
HEADS: Final = 16
KV_HEADS: Final = 8
HEAD_DIM: Final = 64
VOCAB: Final = 16384
CONTEXT: Final = 2048

FILE_TYPES: Final = {"F16": 1, "Q4_0": 2, "Q8_0": 7}
Quantise = Callable[[Path, Path, str], None]


def default_folder() -> Path:
    """Where models are kept when nothing else is asked for."""
    return platformdirs.user_cache_path("modelc-benchmarks")


def make(folder: Path, kind: str, quantise: Quantise | None = None) -> Path | None:
    """Return the model's file of one kind, made now if it is not there.

    Args:
        kind: F16, Q4_0, Q8_0, or one that only llama.cpp makes, such as Q4_K_M.
        quantise: called with (F16 file, new file, kind) for those; without it they are None.
    """
    path = folder / f"random-{kind.lower()}.gguf"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    if kind in FILE_TYPES:
        _write(partial, kind)
    elif quantise is None:
        return None
    else:
        source = make(folder, "F16")
        assert source is not None
        quantise(source, partial, kind)
    return partial.rename(path)


def _write(path: Path, kind: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    writer.add_file_type(FILE_TYPES[kind])
    _add_tokenizer(writer)
    type = gguf.GGMLQuantizationType[kind]
    for name, values in _tensors():
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, type), raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors() -> Iterator[tuple[str, np.ndarray]]:
    random = np.random.default_rng(7)

    def normal(rows: int, columns: int, gain: float) -> np.ndarray:
        values = random.standard_normal((rows, columns), np.float32)
        # As in a 16-bit checkpoint, so that all kinds are made of the same numbers.
        return (values * np.float32(gain / columns**0.5)).astype(np.float16).astype(np.float32)

    def norm() -> np.ndarray:
        return 1 + np.float32(0.1) * random.standard_normal(HIDDEN, np.float32)

    width, kv_width = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    yield "token_embd.weight", normal(VOCAB, HIDDEN, HIDDEN**0.5)
    for layer in range(LAYERS):
        prefix = f"blk.{layer}"
        yield f"{prefix}.attn_norm.weight", norm()
        yield f"{prefix}.ffn_norm.weight", norm()
        yield f"{prefix}.attn_q.weight", normal(width, HIDDEN, 1.5)
        yield f"{prefix}.attn_k.weight", normal(kv_width, HIDDEN, 1.5)
        yield f"{prefix}.attn_v.weight", normal(kv_width, HIDDEN, 1.0)
        yield f"{prefix}.attn_output.weight", normal(HIDDEN, width, 0.5)
        yield f"{prefix}.ffn_gate.weight", normal(FEED_FORWARD, HIDDEN, 1.0)
        yield f"{prefix}.ffn_up.weight", normal(FEED_FORWARD, HIDDEN, 1.0)
        yield f"{prefix}.ffn_down.weight", normal(HIDDEN, FEED_FORWARD, 1.0)
    yield "output_norm.weight", norm()
    yield "output.weight", normal(VOCAB, HIDDEN, 2.0)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """A byte-level BPE: the bytes, then pairs of letters, then pairs of those."""
    special = ["<|bos|>", "<|eos|>"]
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + count) for count in range(256 - len(letters))]
    small = [letter for letter in letters if letter.isascii() and letter.islower()]
    pairs = list(product(small, small))
    doubled = product(["".join(pair) for pair in pairs], repeat=2)
    merges = [*pairs, *islice(doubled, VOCAB - len(letters) - len(pairs) - len(special))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*letters, *("".join(merge) for merge in merges), *special])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_token_types([1] * (VOCAB - len(special)) + [3] * len(special))
    writer.add_bos_token_id(VOCAB - 2)
    writer.add_eos_token_id(VOCAB - 1)
    writer.add_add_bos_token(False)

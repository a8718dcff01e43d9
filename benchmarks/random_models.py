"""Llamas of random parameters in the shapes of real ones, and their tokenizer.

Random weights run as fast as trained ones, and no download is needed. Matrices are made of 2^16
blocks of 32 normal numbers, drawn at random for every place: as fast as the disk takes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs

BLOCK: Final = 32
POOL: Final = 1 << 16  # blocks; so many that an index is a uint16
SPECIAL: Final = ("<|bos|>", "<|eos|>")  # the last two tokens


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama; `rope_factor` is Llama 3's scaling (0: none) of 8192 positions."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    tied: bool = False
    rope_theta: float = 500000.0
    rope_factor: float = 0.0

    @property
    def bos(self) -> int:
        return self.vocab - 2

    @property
    def eos(self) -> int:
        return self.vocab - 1


SHAPES: Final = {
    "toy": Shape(4, 1024, 2816, 16, 8, 64, 8192, 1024, rope_theta=10000.0),
    "layers": Shape(2, 2048, 8192, 32, 8, 64, 8192, 4096, rope_theta=500000.0),
    "200m": Shape(12, 1024, 2816, 16, 8, 64, 16384, 2048, rope_theta=10000.0),
    "1b": Shape(16, 2048, 8192, 32, 8, 64, 128256, 131072, tied=True, rope_factor=32.0),
    "8b": Shape(32, 4096, 14336, 32, 8, 128, 128256, 131072, rope_factor=8.0),
}
"""Small ones, of which `layers` has two of Llama 3.2 1B's; Llama 3.2 1B and Llama 3.1 8B."""

ROPE_ORIGINAL: Final = 8192
ROPE_SLOWEST: Final = 1.0  # Llama 3's low_freq_factor and high_freq_factor
ROPE_FASTEST: Final = 4.0


@dataclass(frozen=True)
class Weight:
    """One tensor by Hugging Face's name; a matrix is [out, in] of `deviation`, a vector is a
    norm's, around 1."""

    name: str
    shape: tuple[int, ...]
    deviation: float


def weights(shape: Shape) -> Iterator[Weight]:
    """Yield a model's weights, scaled so that activations stay of one size in any depth."""

    def matrix(name: str, rows: int, columns: int, gain: float) -> Weight:
        return Weight(f"{name}.weight", (rows, columns), gain / columns**0.5)

    def norm(name: str) -> Weight:
        return Weight(f"{name}.weight", (shape.hidden,), 0.1)

    hidden, inner = shape.hidden, shape.feed_forward
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # A tied one is the head as well, whose logits are to be of a model's size.
    yield matrix("model.embed_tokens", shape.vocab, hidden, 2.0 if shape.tied else hidden**0.5)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield norm(f"{prefix}.input_layernorm")
        yield norm(f"{prefix}.post_attention_layernorm")
        yield matrix(f"{prefix}.self_attn.q_proj", queries, hidden, 1.5)
        yield matrix(f"{prefix}.self_attn.k_proj", keys, hidden, 1.5)
        yield matrix(f"{prefix}.self_attn.v_proj", keys, hidden, 1.0)
        yield matrix(f"{prefix}.self_attn.o_proj", hidden, queries, 0.5)
        yield matrix(f"{prefix}.mlp.gate_proj", inner, hidden, 1.0)
        yield matrix(f"{prefix}.mlp.up_proj", inner, hidden, 1.0)
        yield matrix(f"{prefix}.mlp.down_proj", hidden, inner, 1.0)
    yield norm("model.norm")
    if not shape.tied:
        yield matrix("lm_head", shape.vocab, hidden, 2.0)


class RandomBlocks:
    """Draws weights; those of all formats are made of the same numbers, drawn in the same order."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(7)
        normal = self._random.standard_normal((POOL, BLOCK), np.float32)
        self._pool = normal / normal.std()

    def blocks(self, deviation: float) -> np.ndarray:
        """Return the pool, float32 [POOL, BLOCK], scaled; to be quantised, then drawn from."""
        # As in a 16-bit checkpoint.
        return (self._pool * np.float32(deviation)).astype(np.float16).astype(np.float32)

    def places(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return which block lies where in a matrix, uint16 [rows, columns / BLOCK]."""
        rows, columns = shape
        return self._random.integers(0, POOL, (rows, columns // BLOCK), np.uint16)

    def norm(self, weight: Weight) -> np.ndarray:
        """Return a norm's weight, float32."""
        values = self._random.standard_normal(weight.shape, np.float32)
        return (1 + np.float32(weight.deviation) * values).astype(np.float16).astype(np.float32)


def rope_divisors(shape: Shape) -> np.ndarray:
    """Return what Llama 3's scaling divides each frequency by, float32 [head_dim / 2]."""
    turns = np.arange(0, shape.head_dim, 2) / shape.head_dim
    wavelengths = 2 * math.pi * shape.rope_theta**turns
    share = ROPE_ORIGINAL / wavelengths
    smooth = np.clip((share - ROPE_SLOWEST) / (ROPE_FASTEST - ROPE_SLOWEST), 0, 1)
    return (1 / ((1 - smooth) / shape.rope_factor + smooth)).astype(np.float32)


def vocabulary(shape: Shape) -> tuple[list[str], list[tuple[str, str]]]:
    """Return tokens and merges of a byte-level BPE: the bytes, then pairs of letters, then pairs of
    those as far as there is room, and the two special ones."""
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + count) for count in range(256 - len(letters))]
    small = [letter for letter in letters if letter.isascii() and letter.islower()]
    pairs = list(product(small, small))
    doubled = product(["".join(pair) for pair in pairs], repeat=2)
    merges = [*pairs, *islice(doubled, shape.vocab - len(letters) - len(pairs) - len(SPECIAL))]
    return [*letters, *("".join(merge) for merge in merges), *SPECIAL], merges


def default_folder() -> Path:
    """Where models are kept when nothing else is asked for."""
    return platformdirs.user_cache_path("modelc-benchmarks")

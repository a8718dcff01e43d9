"""A decoder source without a frontend: random weights in one file, or no file at all."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from modelc.decoder.check import linear_shapes, plain_shapes
from modelc.decoder.config import DecoderConfig, DecoderSource, Rope, TokenizerData
from modelc.ir.stored import StoredMatrix

NO_TOKENIZER = TokenizerData("", None, (), False, "", {})


def tiny_config(**changes: Any) -> DecoderConfig:
    """A llama of two layers whose four query heads share two key heads."""
    sizes: dict[str, Any] = {
        "architecture": "llama",
        "vocab_size": 40,
        "hidden_size": 32,
        "intermediate_size": 48,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "norm_epsilon": 1e-5,
        "rope": Rope(dim=8),
        "max_context": 64,
        "attention_scale": 8**-0.5,
        **changes,
    }
    sizes.setdefault("windows", (0,) * sizes["layers"])
    return DecoderConfig(**sizes)


def tiny_source(
    config: DecoderConfig, path: Path = Path("absent.bin"), biases: bool = False
) -> DecoderSource:
    """Return a source whose weights would lie in `path`; `write_weights` puts them there."""
    shapes: list[tuple[str, tuple[int, ...]]] = list(plain_shapes(config))
    for name, shape in linear_shapes(config):
        shapes.append((f"{name}.weight", shape))
        if biases:
            shapes.append((f"{name}.bias", shape[:1]))
    weights, offset = {}, 0
    for name, shape in shapes:
        weights[name] = StoredMatrix(path, offset, "F32", shape)
        offset += 4 * prod(shape)
    return DecoderSource(config, weights, NO_TOKENIZER)


def write_weights(source: DecoderSource, seed: int = 0) -> None:
    """Write random weights to the file that the source names."""
    last = max(source.weights.values(), key=lambda matrix: matrix.offset)
    count = last.offset // 4 + prod(last.shape)
    values = np.random.default_rng(seed).normal(0, 0.3, count)
    last.path.write_bytes(values.astype(np.float32).tobytes())

"""Random blocks of GGML's formats, and decoders whose weights are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from modelc.decoder.config import DecoderSource
from modelc.ir.stored import BLOCKS

# Where a block's float16 fields are. Source: ggml-common.h.
HALF_OFFSETS = {
    "F16": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}


def random_blocks(name: str, rows: int, blocks: int, seed: int, size: float = 0.05) -> np.ndarray:
    """Random bytes, uint8 [rows, blocks * block bytes], whose float16 fields are finite and at
    most 2 * `size`."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (rows, blocks, BLOCKS[name][1]), dtype=np.uint8)
    for offset in HALF_OFFSETS[name]:
        half = rng.uniform(0.2 * size, 2 * size, (rows, blocks, 1)).astype("<f2")
        raw[..., offset : offset + 2] = half.view(np.uint8)
    return raw.reshape(rows, -1)


def stored_as(
    source: DecoderSource, formats: Mapping[str, str], path: Path | None = None
) -> DecoderSource:
    """Return a source whose matrices are of other formats.

    Args:
        formats: by the module's last name ("q_proj"); "" is all others.
        path: where their random bytes are written (None: nowhere).
    """
    weights, chunks, offset = {}, [], 0
    for index, (name, matrix) in enumerate(source.weights.items()):
        format = "F32"
        if len(matrix.shape) == 2:
            format = formats.get(name.split(".")[-2], formats[""])
        weights[name] = replace(matrix, path=path or matrix.path, offset=offset, format=format)
        if path is not None:
            chunks.append(_bytes(format, weights[name].shape, index))
        offset += weights[name].row_count * weights[name].row_bytes
    if path is not None:
        path.write_bytes(b"".join(chunks))
    return replace(source, weights=weights)


def _bytes(format: str, shape: tuple[int, ...], seed: int) -> bytes:
    """Values of about 0.1; vectors of norms and biases around 1."""
    rng = np.random.default_rng(seed)
    if format == "F32":
        scale, centre = (0.1, 0.0) if len(shape) == 2 else (0.2, 1.0)
        return rng.normal(centre, scale, shape).astype("<f4").tobytes()
    if format == "F16":
        return rng.normal(0, 0.1, shape).astype("<f2").tobytes()
    if format == "BF16":
        values = rng.normal(0, 0.1, shape).astype("<f4").view(np.uint32)
        return (values >> np.uint32(16)).astype("<u2").tobytes()
    blocks = shape[1] // BLOCKS[format][0]
    trial = random_blocks(format, shape[0], blocks, seed)
    spread = gguf.quants.dequantize(trial, gguf.GGMLQuantizationType[format]).std()
    return random_blocks(format, shape[0], blocks, seed, 0.05 * 0.1 / spread).tobytes()

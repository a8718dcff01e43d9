"""Stored blocks as float32: the common formats here, at memory speed, the others by `gguf`.

Source of the formats: the GGUF specification and ggml-common.h.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Final

import numpy as np

CHUNK: Final = 1 << 12  # blocks decoded at once, so that what lies between stays in the cache
NIBBLES: Final = np.uint64(0x0F0F0F0F0F0F0F0F)


def decode_blocks(raw: np.ndarray, format: str) -> np.ndarray:
    """Decode uint8 [rows, row_bytes] of a key of `stored.BLOCKS` into float32 [rows, columns]."""
    raw = np.ascontiguousarray(raw)
    if format in FLOATS:
        return FLOATS[format](raw)
    if format not in BLOCKWISE:
        return _by_gguf(raw, format)
    block_bytes, fill = BLOCKWISE[format]
    blocks = raw.reshape(-1, block_bytes)
    values = np.empty((len(blocks), 32), np.float32)
    for first in range(0, len(blocks), CHUNK):
        fill(blocks[first : first + CHUNK], values[first : first + CHUNK])
    return values.reshape(len(raw), -1)


def _fill_q4_0(blocks: np.ndarray, values: np.ndarray) -> None:
    """A scale, then 16 bytes: elements 0 to 15 in their low nibbles, 16 to 31 in the high ones."""
    bytes = np.ascontiguousarray(blocks[:, 2:]).view(np.uint64)
    codes = np.empty((len(blocks), 4), np.uint64)
    np.bitwise_and(bytes, NIBBLES, out=codes[:, :2])
    np.bitwise_and(bytes >> np.uint64(4), NIBBLES, out=codes[:, 2:])
    signed = codes.view(np.int8)
    signed -= 8
    values[:] = signed
    values *= _scales(blocks)


def _fill_q8_0(blocks: np.ndarray, values: np.ndarray) -> None:
    """A scale, then 32 signed bytes."""
    values[:] = blocks[:, 2:].view(np.int8)
    values *= _scales(blocks)


def _scales(blocks: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)


def _f16(raw: np.ndarray) -> np.ndarray:
    """Each value looked up: several times faster than converting it."""
    halves, table = raw.view(np.uint16), _every_half()
    values = np.empty(halves.shape, np.float32)
    rows = max(1, CHUNK * 32 // halves.shape[1])
    for first in range(0, len(halves), rows):
        part = slice(first, first + rows)
        # Nothing is out of range to be clipped; it saves NumPy a copy of the result.
        np.take(table, halves[part], out=values[part], mode="clip")
    return values


@cache
def _every_half() -> np.ndarray:
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


def _bf16(raw: np.ndarray) -> np.ndarray:
    return (raw.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def _f32(raw: np.ndarray) -> np.ndarray:
    return raw.view(np.float32)


def _by_gguf(raw: np.ndarray, format: str) -> np.ndarray:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

    kind = GGMLQuantizationType[format]
    elements, size = GGML_QUANT_SIZES[kind]
    values = np.empty((len(raw), raw.shape[1] // size * elements), np.float32)
    rows = max(1, CHUNK * 32 // values.shape[1])  # it takes several times the memory of its result
    for first in range(0, len(raw), rows):
        values[first : first + rows] = quants.dequantize(raw[first : first + rows], kind)
    return values


FLOATS: Final[Mapping[str, Callable[[np.ndarray], np.ndarray]]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
}
BLOCKWISE: Final[Mapping[str, tuple[int, Callable[[np.ndarray, np.ndarray], None]]]] = {
    "Q4_0": (18, _fill_q4_0),
    "Q8_0": (34, _fill_q8_0),
}
"""Bytes of a block of 32 elements, and what fills float32 [blocks, 32] with them."""

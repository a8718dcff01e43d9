"""Weights as they lie in the source file: memory-mapped, decoded only when somebody asks.

A target that knows a weight's format takes its raw blocks (`blocks()`), everybody else float32
(`decode()`).
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.decode import decode_blocks

# Elements and bytes of one block along a row, by format name (GGML's names; the float formats of
# safetensors have the same names). Source: the GGUF specification.
BLOCKS: Final[dict[str, tuple[int, int]]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}


@dataclass(frozen=True)
class StoredMatrix:
    """Where a weight lies and how its stored rows become the rows of the tensor.

    Attributes:
        path: the file.
        offset: of the first byte in the file.
        format: a key of `BLOCKS`.
        shape: stored shape, rows first; a vector has one dimension.
        rows: half-open range of the stored rows that this weight is (fused weights are sliced).
        unpermute_heads: undo llama.cpp's interleaving of rotary halves over this many heads.
        transposed: the tensor is the stored matrix's transpose, as MatMul wants it.
        add: added to every element (Gemma's norms store w - 1).
    """

    path: Path
    offset: int
    format: str
    shape: tuple[int, ...]
    rows: tuple[int, int] | None = None
    unpermute_heads: int = 0
    transposed: bool = False
    add: float = 0.0

    def __post_init__(self) -> None:
        block, _ = BLOCKS[self.format]
        if self.shape[-1] % block:
            raise BadInput(
                f"a row of {self.shape[-1]} elements is not a whole number of {self.format} "
                f"blocks of {block}",
                where=Where(path=str(self.path)),
            )

    @property
    def row_bytes(self) -> int:
        block, size = BLOCKS[self.format]
        return self.shape[-1] // block * size

    @property
    def row_count(self) -> int:
        return self.shape[0] if len(self.shape) > 1 else 1

    def blocks(self) -> np.ndarray:
        """Return the raw bytes of this weight's rows, uint8 [rows, row_bytes].

        A view of the mapped file unless rows have to change places.
        """
        total = self.row_count * self.row_bytes
        raw = np.frombuffer(mapped(self.path), np.uint8, total, self.offset)
        if len(self.shape) == 1 and self.unpermute_heads:
            raw = raw.reshape(self.shape[0], -1)  # a bias: each element is a row of its own
        else:
            raw = raw.reshape(self.row_count, self.row_bytes)
        if self.rows:
            raw = raw[self.rows[0] : self.rows[1]]
        if self.unpermute_heads:
            raw = unpermute(raw, self.unpermute_heads)
        return raw

    def decode(self) -> np.ndarray:
        """Return float32 values: [rows, columns], transposed if asked, or a vector."""
        values = decode_blocks(self.blocks(), self.format)
        if len(self.shape) == 1:
            values = values.reshape(-1)
        if self.add:
            values = values + np.float32(self.add)
        return values.T if self.transposed else values

    def decode_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 [len(rows), columns]: these rows of the matrix, before transposing."""
        values = decode_blocks(self.blocks()[rows], self.format)
        return values + np.float32(self.add) if self.add else values


@dataclass(frozen=True)
class MadeMatrix(StoredMatrix):
    """A matrix whose numbers are made of something else when it is decoded, so that there are no
    blocks of a format to be had: who wants some asks for `decode`, or for codes."""

    def __post_init__(self) -> None:
        """What it is made of was checked where that was read."""

    def blocks(self) -> np.ndarray:
        """Raises ModelcError: a caller took it for a matrix that lies in blocks."""
        raise ModelcError(
            f"a {type(self).__name__} has no blocks: its numbers are made when it is decoded",
            where=Where(path=str(self.path)),
        )


def tensor_shape(source: StoredMatrix) -> tuple[int, ...]:
    """Return the shape of the tensor that a stored matrix becomes."""
    if len(source.shape) == 1:
        return source.shape
    first, last = source.rows or (0, source.shape[0])
    shape = (last - first, *source.shape[1:])
    return shape[::-1] if source.transposed else shape


def slice_rows(source: StoredMatrix, first: int, last: int) -> StoredMatrix:
    """Return rows [first, last) of a matrix (before it is transposed), or elements of a vector.

    Rows that change places come as whole heads, elements of a vector as whole blocks.
    """
    heads = source.unpermute_heads
    if heads:
        count = max(tensor_shape(replace(source, transposed=False))[0] // heads, 1)
        assert first % count == last % count == 0, f"{source.path.name}: a part of a head"
        heads = (last - first) // count
    if len(source.shape) == 1:
        block, size = BLOCKS[source.format]
        assert first % block == 0, f"{source.path.name}: a part of a block"
        offset = source.offset + first // block * size
        return replace(source, offset=offset, shape=(last - first,), unpermute_heads=heads)
    start = source.rows[0] if source.rows else 0
    return replace(source, rows=(start + first, start + last), unpermute_heads=heads)


def release(source: StoredMatrix) -> None:
    """Let go of the memory that holds a weight's file pages; reading it again maps them anew."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = source.offset // mmap.PAGESIZE * mmap.PAGESIZE
    size = source.offset + source.row_count * source.row_bytes - first
    mapped(source.path).madvise(mmap.MADV_DONTNEED, first, size)


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Undo llama.cpp's row order of q and k ([head, half, 2] back to [head, 2, half])."""
    count, width = rows.shape
    grouped = rows.reshape(heads, count // heads // 2, 2, width)
    return np.ascontiguousarray(grouped.swapaxes(1, 2)).reshape(count, width)


@lru_cache(maxsize=64)
def _mapping(path: Path, size: int, modified_ns: int) -> mmap.mmap:
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def mapped(path: Path) -> mmap.mmap:
    """Return a file's bytes without reading them."""
    status = path.stat()
    return _mapping(path, status.st_size, status.st_mtime_ns)

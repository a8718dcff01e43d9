"""Parses a GGUF file's header: metadata and tensor places, every length checked before use.

Source: the GGUF specification (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
The `gguf` package's reader makes several NumPy maps for each token of a vocabulary (seconds for a
usual one) and trusts lengths and counts, so the header is read here; the package's tables of types
are used.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.frontends.stored import StoredTensor

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# Bounds on what a header may make this process allocate. The largest vocabularies have 2^18 tokens
# and 2^19 merges, about 20 MB.
MAX_HEADER_BYTES = 1 << 28
MAX_KEYS = 1 << 14
MAX_TENSORS = 1 << 16
MAX_VALUES = 1 << 22  # in all lists together
MAX_DIMENSIONS = 4

# Value types of the metadata, as `struct` spells them.
SCALARS: Final[Mapping[int, str]] = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class Container:
    """A GGUF file's header.

    Attributes:
        metadata: int, float, bool, str or a list of one of these, by key.
        tensors: by name, in the file's order.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]


def is_gguf(path: Path) -> bool:
    """True if a file begins as a GGUF file does."""
    try:
        with path.open("rb") as stream:
            return stream.read(4) == MAGIC
    except OSError:
        return False


def read_container(path: Path) -> Container:
    """Parse the header of a GGUF file.

    Raises:
        BadInput: the file is truncated, or anything in its header makes no sense.
    """
    try:
        with path.open("rb") as stream:
            total = path.stat().st_size
            if total < 24:
                raise _bad(path, f"it has {total} bytes, fewer than a header")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _read(_Cursor(path, data, total))
    except OSError as error:
        raise _bad(path, f"it can't be read: {error.strerror}") from error


class _Cursor:
    """A place in the mapped header that can't leave it."""

    def __init__(self, path: Path, data: mmap.mmap, total: int) -> None:
        self.path, self.data, self.total = path, data, total
        self.end = min(total, MAX_HEADER_BYTES)
        self.at = 0
        self.values_left = MAX_VALUES

    def take(self, count: int) -> int:
        """Return the place of the next `count` bytes and pass over them."""
        first = self.at
        if count > self.end - first:
            raise _bad(self.path, f"{count} bytes at byte {first} run past the end of the header")
        self.at = first + count
        return first

    def scalar(self, code: str) -> Any:
        return struct.unpack_from(f"<{code}", self.data, self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        length = self.scalar("Q")
        first = self.take(length)
        try:
            return self.data[first : first + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise _bad(self.path, f"the text at byte {first} is not UTF-8") from error

    def strings(self, count: int) -> list[str]:
        # The loop of `string`, unrolled: vocabularies have several 100,000 entries.
        unpack, data, end, at = struct.Struct("<Q").unpack_from, self.data, self.end, self.at
        texts = []
        for _ in range(count):
            first = at + 8
            if first > end:
                raise _bad(self.path, f"a list of {count} texts runs past the end of the header")
            at = first + unpack(data, at)[0]
            if at > end:
                raise _bad(self.path, f"a text at byte {first} runs past the end of the header")
            texts.append(data[first:at])
        self.at = at
        try:
            return [text.decode("utf-8") for text in texts]
        except UnicodeDecodeError as error:
            raise _bad(self.path, f"a text before byte {at} is not UTF-8") from error


def _read(cursor: _Cursor) -> Container:
    if cursor.data[cursor.take(4) : 4] != MAGIC:
        raise _bad(cursor.path, "it does not begin with GGUF")
    version = cursor.scalar("I")
    if version not in VERSIONS:
        swapped = version & 0xFFFF == 0
        raise BadInput(
            "the GGUF file is big-endian" if swapped else f"GGUF version {version}",
            where=Where(path=str(cursor.path)),
            hint="convert it again with a recent llama.cpp, for little-endian machines",
        )
    tensor_count, key_count = cursor.scalar("Q"), cursor.scalar("Q")
    if tensor_count > MAX_TENSORS or key_count > MAX_KEYS:
        raise _bad(cursor.path, f"it says that it has {tensor_count} tensors, {key_count} keys")
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = cursor.string()
        if key in metadata:
            raise _bad(cursor.path, f"key {key!r} appears twice")
        metadata[key] = _value(cursor, key, cursor.scalar("I"))
    rows = [_tensor_row(cursor) for _ in range(tensor_count)]
    return Container(cursor.path, metadata, _place(cursor, rows, _alignment(cursor, metadata)))


def _value(cursor: _Cursor, key: str, kind: int) -> Any:
    if kind == STRING:
        return cursor.string()
    if kind in SCALARS:
        return cursor.scalar(SCALARS[kind])
    if kind != ARRAY:
        raise _bad(cursor.path, f"key {key!r} has the unknown type {kind}")
    kind, count = cursor.scalar("I"), cursor.scalar("Q")
    if count > cursor.values_left or (kind != STRING and kind not in SCALARS):
        raise _bad(cursor.path, f"key {key!r} is a list of {count} values of type {kind}")
    cursor.values_left -= count
    if kind == STRING:
        return cursor.strings(count)
    code = f"<{count}{SCALARS[kind]}"
    return list(struct.unpack_from(code, cursor.data, cursor.take(struct.calcsize(code))))


def _tensor_row(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Return name, shape (rows first), type and offset of the next tensor."""
    name = cursor.string()
    dimensions = cursor.scalar("I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _bad(cursor.path, f"tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.scalar("Q") for _ in range(dimensions))
    if min(shape) < 1:
        raise _bad(cursor.path, f"tensor {name!r} is empty")
    return name, shape[::-1], cursor.scalar("I"), cursor.scalar("Q")


def _alignment(cursor: _Cursor, metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment.bit_count() != 1 or not 1 <= alignment <= 1 << 20:
        raise _bad(cursor.path, f"general.alignment is {str(alignment)[:40]}, not a power of two")
    return alignment


def _place(
    cursor: _Cursor, rows: list[tuple[str, tuple[int, ...], int, int]], alignment: int
) -> dict[str, StoredTensor]:
    """Check every tensor's place against the file and each other."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, StoredTensor] = {}
    for name, shape, kind, offset in rows:
        if kind not in GGMLQuantizationType.__members__.values():
            raise _bad(cursor.path, f"tensor {name!r} has the unknown type {kind}")
        format = GGMLQuantizationType(kind)
        elements, block_bytes = GGML_QUANT_SIZES[format]
        if shape[-1] % elements or offset % alignment or name in tensors:
            raise _bad(cursor.path, f"tensor {name!r} ({format.name} {list(shape)} at {offset})")
        size = math.prod(shape) // elements * block_bytes
        if offset + size > cursor.total - start:
            raise _bad(cursor.path, f"tensor {name!r} runs past the file's {cursor.total} bytes")
        place = start + offset
        tensors[name] = StoredTensor(name, cursor.path, format.name, shape, place, size)
    end = start
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.offset):
        if tensor.offset < end:
            raise _bad(cursor.path, f"tensor {tensor.name!r} lies over another")
        end = tensor.offset + tensor.size
    return tensors


def _bad(path: Path, what: str) -> BadInput:
    return BadInput(
        f"not a sound GGUF file: {what}",
        where=Where(path=str(path)),
        hint="the file is damaged or only partly downloaded",
    )

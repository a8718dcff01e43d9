"""Reads and checks the header of a safetensors file, without touching its tensors.

Source: the safetensors format (https://github.com/huggingface/safetensors#format): eight bytes of
header length, a JSON header, then the tensors' bytes without holes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.frontends.stored import StoredTensor

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_DIMENSIONS = 8
DTYPE_BYTES: Final[Mapping[str, int]] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "F8_E8M0": 1,
}  # fmt: skip


def read_header(path: Path) -> tuple[StoredTensor, ...]:
    """Return the tensors of a safetensors file, sorted by place.

    Raises:
        BadInput: the file is truncated, or its header is not one, or lies about its tensors.
    """
    try:
        total = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if total < 8 or length > min(total - 8, MAX_HEADER_BYTES):
                raise _bad(path, f"the header of {length} bytes does not fit the {total} bytes")
            raw = stream.read(length)
    except OSError as error:
        raise _bad(path, f"it can't be read: {error.strerror}") from error
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise _bad(path, "its header is not a JSON object")
    start = 8 + length
    tensors = [
        _tensor(path, name, row, start) for name, row in header.items() if name != "__metadata__"
    ]
    tensors.sort(key=lambda tensor: (tensor.offset, tensor.size))
    _check_places(path, tensors, start, total)
    return tuple(tensors)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    rows = dict(pairs)
    if len(rows) != len(pairs):
        raise ValueError("a name appears twice")
    return rows


def _tensor(path: Path, name: str, row: Any, start: int) -> StoredTensor:
    row = row if isinstance(row, dict) else {}
    dtype, shape, offsets = row.get("dtype"), row.get("shape"), row.get("data_offsets")
    if (
        not isinstance(dtype, str)
        or not _whole(shape)
        or not _whole(offsets)
        or len(shape) > MAX_DIMENSIONS
        or len(offsets) != 2
        or set(row) != {"dtype", "shape", "data_offsets"}
        or not name.isprintable()
    ):
        raise _bad(path, f"the header's row of tensor {name!r} makes no sense")
    if dtype not in DTYPE_BYTES:
        raise _bad(path, f"tensor {name} has the unknown type {dtype!r}")
    size = math.prod(shape) * DTYPE_BYTES[dtype]
    if offsets[1] - offsets[0] != size:
        raise _bad(path, f"tensor {name} says {offsets} but has {size} bytes")
    return StoredTensor(name, path, dtype, tuple(shape), start + offsets[0], size)


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
        for value in values
    )


def _check_places(path: Path, tensors: list[StoredTensor], start: int, total: int) -> None:
    end = start
    for tensor in tensors:
        if tensor.offset != end:
            raise _bad(path, f"tensor {tensor.name} starts at byte {tensor.offset}, not {end}")
        end = tensor.offset + tensor.size
    if end != total:
        raise _bad(path, f"its tensors end at byte {end}, but the file has {total} bytes")


def _bad(path: Path, what: str) -> BadInput:
    return BadInput(
        f"not a sound safetensors file: {what}",
        where=Where(path=str(path)),
        hint="the file is damaged or only partly downloaded",
    )

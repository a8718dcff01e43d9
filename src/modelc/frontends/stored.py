"""Tensors as a file lists them, before anybody knows what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelc.ir.coded import CodedMatrix


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, its place already checked against the file's size.

    Attributes:
        format: GGML's or safetensors' name of the element or block type ("F16", "Q4_K").
        shape: rows first.
        offset, size: in bytes; the offset counts from the file's start.
    """

    name: str
    path: Path
    format: str
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Description:
    """What a source file says of itself.

    Attributes:
        kind: a key of `FRONTENDS`.
        metadata: settings by key; long lists are given as their length.
        tensors: sorted by place.
    """

    kind: str
    metadata: Mapping[str, Any]
    tensors: tuple[StoredTensor, ...]


def listed(name: str, matrix: CodedMatrix) -> StoredTensor:
    """Return a quantised weight as one tensor, whose format says how its codes lie and what they
    are."""
    shape, size = matrix.shape, sum(part.size for _, part in matrix.parts)
    format = f"{matrix.what} ({matrix.format})"
    return StoredTensor(name, matrix.path, format, shape, matrix.offset, size)

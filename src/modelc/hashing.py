"""Canonical, tagged hashing: equal values hash equal, everything unknown is refused.

Each value is fed to SHA-256 with its type's tag and its length, so that no two different values
share an encoding ("1" and 1, [] and {} differ).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 22


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a plain value: None, bool, int, float, str, bytes, lists, maps,
    enums and frozen dataclasses.

    Raises:
        TypeError: the value holds a type with no canonical encoding.
    """
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if value is None or isinstance(value, bool):
        _tagged(sha, b"n", repr(value).encode())
    elif isinstance(value, Enum):
        _tagged(sha, b"e", f"{type(value).__qualname__}.{value.name}".encode())
    elif isinstance(value, int):
        _tagged(sha, b"i", str(value).encode())
    elif isinstance(value, float):
        _tagged(sha, b"f", value.hex().encode())
    elif isinstance(value, str):
        _tagged(sha, b"s", value.encode())
    elif isinstance(value, bytes):
        _tagged(sha, b"b", value)
    elif isinstance(value, (list, tuple)):
        _tagged(sha, b"l", str(len(value)).encode())
        for item in value:
            _feed(sha, item)
    elif isinstance(value, Mapping):
        _tagged(sha, b"m", str(len(value)).encode())
        for key in sorted(value):
            _feed(sha, key)
            _feed(sha, value[key])
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        _tagged(sha, b"d", type(value).__qualname__.encode())
        _feed(sha, fields)
    else:
        raise TypeError(f"no canonical encoding for {type(value).__qualname__}")


def _tagged(sha: Any, tag: bytes, payload: bytes) -> None:
    sha.update(tag + str(len(payload)).encode() + b":")
    sha.update(payload)

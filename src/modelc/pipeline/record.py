"""The record beside each result in the store: what it depends on, what it holds, what it cost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from modelc.errors import Damaged, Where
from modelc.files import FileDigest
from modelc.pipeline.fingerprint import Fingerprint

T = TypeVar("T")


@with_config(ConfigDict(strict=True, extra="forbid"))
@dataclass(frozen=True)
class Record:
    """One result in the store.

    Attributes:
        files: name inside the result -> size and SHA-256.
        seconds: wall time of the step.
        peak_mb: peak resident memory in MB (2**20 bytes): the child's own where `isolated`;
            otherwise that of the whole process while the step ran, with the children that it
            started but not those of steps beside it.
        created: UTC, ISO 8601.
    """

    key: str
    fingerprint: Fingerprint
    files: Mapping[str, FileDigest]
    seconds: float
    peak_mb: float
    isolated: bool
    created: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


RECORDS = TypeAdapter(Record)
FINGERPRINTS = TypeAdapter(Fingerprint)


def dump(value: Record | Fingerprint) -> bytes:
    """Return the JSON that `load` reads: sorted, the same bytes for the same value."""
    return (json.dumps(dataclasses.asdict(value), indent=1, sort_keys=True) + "\n").encode()


def load(adapter: TypeAdapter[T], path: Path) -> T:
    """Read a record.

    Raises:
        Damaged: the file is missing or not what `dump` writes.
    """
    try:
        return adapter.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise Damaged(f"not a record of the store: {what}", where=Where(path=str(path))) from error

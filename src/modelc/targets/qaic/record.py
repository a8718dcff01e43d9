"""Which options made a binary: a record beside it, and a key of all that it depends on.

Keys are of contents, never of paths: a file that changed under its name has another key, and one
that moved has the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.files import is_safe_name, readable_digest, write_atomic
from modelc.hashing import digest
from modelc.targets.qaic.source import read_header

RECORD: Final = "qpc.json"
BINARY: Final = "programqpc.bin"
_FORMAT: Final = 1
_LARGEST: Final = 1 << 24
_FILE_OPTIONS: Final = frozenset(
    {"node_precision_info", "mdp_load_partition_config", "load_profile", "input_list_file"}
)
"""Options that name a file, which counts by what stands in it."""
_PLACE_OPTIONS: Final = frozenset({"mdp_dump_partition_config"})
"""Options that name a file to be written, which makes no other binary."""


def qpc_key(
    onnx: Path,
    options: Mapping[str, Any],
    *,
    sdk_version: str,
    files: Mapping[str, str] | None = None,
) -> str:
    """Return the key (SHA-256, hex) of a binary.

    Args:
        onnx: the graph; its external data counts too.
        options: all options, plain values; those that name a file count by its contents.
        files: texts of further files that the compiler reads, by name.

    Raises:
        BadInput: a file can't be read, or the graph's data lies outside of its folder.
    """
    values = {name: _value(name, item) for name, item in options.items()}
    return digest(
        {
            "format": _FORMAT,
            "onnx": readable_digest(onnx),
            "data": _external_data(onnx),
            "options": {n: v for n, v in values.items() if n not in _PLACE_OPTIONS},
            "files": dict(files or {}),
            "sdk": sdk_version,
        }
    )


def write_record(
    folder: Path,
    key: str,
    options: Mapping[str, Any],
    *,
    sdk_version: str,
    commands: list[list[str]],
) -> None:
    """Write which options and commands made the binary in `folder`."""
    document = {
        "format": _FORMAT,
        "key": key,
        "sdk_version": sdk_version,
        "options": dict(options),
        "commands": commands,
    }
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    write_atomic(folder / RECORD, text.encode())


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a folder, or None if there is none that can be read."""
    try:
        with (folder / RECORD).open("rb") as file:
            document = json.loads(file.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and document.get("format") == _FORMAT else None


def is_made(binary_dir: Path, record_dir: Path, key: str) -> bool:
    """Whether a whole binary with this key lies in `binary_dir`."""
    record = read_record(record_dir)
    return (binary_dir / BINARY).is_file() and record is not None and record.get("key") == key


def _value(name: str, value: Any) -> Any:
    if name in _FILE_OPTIONS and isinstance(value, str):
        return {"contents": readable_digest(Path(value))}
    return value


def _external_data(onnx: Path) -> dict[str, str]:
    """Return the digests of the files that hold the graph's weights."""
    locations = {
        entry.value
        for tensor in read_header(onnx).graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for location in locations:
        inside = is_safe_name(location)
        if not inside or not (onnx.parent / location).resolve().is_relative_to(
            onnx.parent.resolve()
        ):
            raise BadInput(
                f"its weights lie at {location!r}, outside of its folder",
                where=Where(path=str(onnx)),
            )
    return {location: readable_digest(onnx.parent / location) for location in sorted(locations)}

"""Node precision files: nodes that keep float32, or float16, whatever the rest does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

FILE: Final = "node_precision_info.yaml"
_LARGEST: Final = 1 << 24


def node_precision_text(nodes: Mapping[str, Sequence[str]]) -> str:
    """Return the file for lists of nodes under `FP32NodeInstanceNames`, `FP16NodeInstanceNames`."""
    blocks = (
        f"{kind}:\n" + "".join(f"  - {_scalar(name)}\n" for name in names)
        for kind, names in nodes.items()
    )
    return "".join(blocks)


def given_text(path: str) -> str | None:
    """Return what stands in a file that the options name, or None if it is not here to be read."""
    try:
        file = Path(path)
        return None if file.stat().st_size > _LARGEST else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        return None


def _scalar(name: str) -> str:
    """Return a name as YAML has it, quoted if it could be read as something else."""
    plain = name[0].isalpha() or name[0] in "/_"
    if plain and not any(mark in name for mark in (": ", " #")) and not name.endswith((":", " ")):
        return name
    return "'" + name.replace("'", "''") + "'"

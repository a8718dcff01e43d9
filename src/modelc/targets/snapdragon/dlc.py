"""What a DLC says about itself: its graphs, their tensors, and the members of its container.

A DLC (deep learning container) is a graph as the vendor's converter leaves it: quantised, not yet
compiled for a chipset. modelc writes one in `dlc_write.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import Where
from modelc.process import run_worker
from modelc.targets.snapdragon import binary
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.dlc_container import Member, read_member, read_members

HISTORY: Final = "dlc.metadata.history"
MAX_HISTORY_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class DlcGraph:
    """A graph of a DLC; its weights are inside."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class DlcInfo:
    """The description of a DLC.

    Attributes:
        converter: version of the QAIRT that wrote it, "" where it doesn't say.
    """

    converter: str
    graphs: tuple[DlcGraph, ...]
    members: tuple[Member, ...]


def read_dlc(path: Path, *, workdir: Path, timeout_s: float = 120) -> DlcInfo:
    """Return the description of a DLC. libQnnSystem reads its graphs, in a child process.

    Raises:
        Damaged: it is not a DLC, or not whole.
        Missing: libQnnSystem is not installed, or doesn't know DLCs.
        ToolFailed: the vendor's library crashed on it.
    """
    members = read_members(path)
    reply = run_worker(
        "modelc.targets.snapdragon.dlc_system",
        {"dlc": str(path.resolve())},
        workdir=workdir.resolve(),
        timeout_s=timeout_s,
        where=Where(step="inspect", path=str(path)),
        hint="the file is damaged, or was made by a newer QAIRT; write it again",
    )
    return DlcInfo(converter_of(path, members), graphs_from_json(reply["graphs"]), members)


def converter_of(path: Path, members: Sequence[Member]) -> str:
    """Return the version of the QAIRT that a DLC names as its first converter, or ""."""
    for member in members:
        if member.name.startswith(HISTORY) and member.size <= MAX_HISTORY_BYTES:
            try:
                history = json.loads(read_member(path, member, MAX_HISTORY_BYTES))
                version = history["dlcGenerationInfo"][0]["converterCommand"]["converterVersion"]
            except (ValueError, LookupError, TypeError, RecursionError):
                return ""
            return version if isinstance(version, str) else ""
    return ""


def graphs_to_json(graphs: Sequence[DlcGraph]) -> list[dict[str, Any]]:
    return [asdict(graph) for graph in graphs]


def graphs_from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[DlcGraph, ...]:
    return tuple(
        DlcGraph(row["name"], binary.tensors(row["inputs"]), binary.tensors(row["outputs"]))
        for row in rows
    )

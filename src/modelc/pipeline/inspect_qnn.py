"""What QNN's files are: context binaries and DLCs, described by the vendor's library in a child."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelc.errors import BadInput, Damaged, Where
from modelc.pipeline.inspection import Inspection
from modelc.targets.snapdragon.binary import Graph, read_binary
from modelc.targets.snapdragon.dlc import DlcGraph, read_dlc


def inspect_context_binary(path: Path) -> Inspection:
    """Describe a context binary.

    Raises:
        BadInput: it is none.
    """
    with _workdir(path) as workdir:
        info = read_binary(path, workdir=workdir)
    facts = {
        "build": info.build,
        "soc_model": info.soc_model,
        "htp_arch": info.htp_arch,
        "bytes": path.stat().st_size,
    }
    graphs = [
        {"name": g.name, "vtcm_mb": g.vtcm_mb, "spill_fill_bytes": g.spill_fill_bytes}
        for g in info.graphs
    ]
    return Inspection("context-binary", facts, {"graphs": graphs, **_ports(info.graphs)})


def inspect_dlc(path: Path) -> Inspection:
    """Describe a DLC: its graphs and the members of its container.

    Raises:
        BadInput: it is none.
        Missing: the vendor's library, which reads the graphs, is not here.
    """
    with _workdir(path) as workdir:
        info = read_dlc(path, workdir=workdir)
        if not info.graphs:
            raise Damaged("not a DLC: a ZIP file without any graph")
    facts = {"converter": info.converter, "bytes": path.stat().st_size}
    graphs = [
        {"name": g.name, "inputs": len(g.inputs), "outputs": len(g.outputs)} for g in info.graphs
    ]
    members = [{"name": member.name, "bytes": member.size} for member in info.members]
    tables = {"graphs": graphs, "members": members, **_ports(info.graphs)}
    return Inspection("dlc", facts, tables)


@contextmanager
def _workdir(path: Path) -> Iterator[Path]:
    """A folder for the child. A file that is damaged is bad input to a user who names it."""
    with tempfile.TemporaryDirectory(prefix="modelc-") as scratch:
        try:
            yield Path(scratch)
        except Damaged as error:
            raise BadInput(
                error.message, where=Where(path=str(path)), hint="is it whole, and made by QNN?"
            ) from error


def _ports(graphs: Iterable[Graph | DlcGraph]) -> dict[str, list[dict[str, Any]]]:
    return {
        f"{side} of {graph.name}": [
            {**asdict(tensor), "shape": list(tensor.shape)} for tensor in getattr(graph, side)
        ]
        for graph in graphs
        for side in ("inputs", "outputs")
    }

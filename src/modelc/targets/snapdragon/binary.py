"""What a context binary says about itself: chipset, graphs, tensors and their encodings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelc.errors import Where
from modelc.process import run_worker


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph; value = (code - zero_point) * scale where scale is set.

    Attributes:
        dtype: numpy's name of the stored type ("uint16", "float32", ...).
        scale, zero_point: the encoding; scale is 0 for a tensor that is not quantised.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class Graph:
    """A graph of a binary.

    Attributes:
        spill_fill_bytes: working memory outside VTCM. It repeats exactly from build to build, so
            it is the static figure of what a layout costs.
        vtcm_mb: on-chip memory that the graph was scheduled for.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    spill_fill_bytes: int
    vtcm_mb: int


@dataclass(frozen=True)
class BinaryInfo:
    """The metadata of a context binary.

    Attributes:
        build: version of the QAIRT that made it.
        soc_model: what it was compiled for.
        htp_arch: "v79", or "" where the binary doesn't say.
    """

    build: str
    soc_model: int
    htp_arch: str
    graphs: tuple[Graph, ...]


def to_json(info: BinaryInfo) -> dict[str, Any]:
    return asdict(info)


def from_json(document: Mapping[str, Any]) -> BinaryInfo:
    return BinaryInfo(**{**document, "graphs": tuple(map(_graph, document["graphs"]))})


def read_binary(binary: Path, *, workdir: Path, timeout_s: float = 120) -> BinaryInfo:
    """Return the metadata of a context binary, read in a child process.

    Raises:
        Damaged: it is not a context binary.
        ToolFailed: the vendor's library crashed on it.
    """
    reply = run_worker(
        "modelc.targets.snapdragon.qnn_system",
        {"binary": str(binary.resolve())},
        workdir=workdir.resolve(),
        timeout_s=timeout_s,
        where=Where(step="inspect", path=str(binary)),
        hint="the file is damaged, or was made by a newer QAIRT; compile it again",
    )
    return from_json(reply)


def tensors(rows: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    """Return the tensors of which `asdict` made `rows`."""
    return tuple(Tensor(**{**row, "shape": tuple(row["shape"])}) for row in rows)


def _graph(document: Mapping[str, Any]) -> Graph:
    sides = {side: tensors(document[side]) for side in ("inputs", "outputs")}
    return Graph(**{**document, **sides})

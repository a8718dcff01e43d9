"""Where the nodes of a compiled network run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from modelc.errors import ToolFailed, Where

BOUNDARY: Final = "boundary"
STRANDED: Final = "its neighbours are refused, and HTP takes no lone conversion"


@dataclass(frozen=True)
class PlacedNode:
    """A node that the CPU runs.

    Attributes:
        module: module path of the source's node, "" where ONNX Runtime put it in.
        why: BOUNDARY for a conversion of an input or output, which was asked for; else what the
            provider says against it, or STRANDED.
    """

    name: str
    op_type: str
    module: str
    why: str


@dataclass(frozen=True)
class Partition:
    """How a network is spread.

    Attributes:
        htp: the ONNX nodes of each part that HTP runs, one QNN graph each.
        cpu: the others.
    """

    htp: tuple[tuple[str, ...], ...]
    cpu: tuple[PlacedNode, ...]

    @property
    def islands(self) -> tuple[PlacedNode, ...]:
        """The nodes that the CPU runs because HTP doesn't."""
        return tuple(node for node in self.cpu if node.why != BOUNDARY)


def check_whole(partition: Partition, where: Where) -> None:
    """Check that HTP runs all of a network in one piece, but for conversions at its edge.

    Raises:
        ToolFailed: it doesn't.
    """
    islands = partition.islands
    if len(partition.htp) == 1 and not islands:
        return
    listed = "; ".join(f"{node.module or node.name}: {node.op_type}" for node in islands)
    raise ToolFailed(
        f"HTP takes the network in {len(partition.htp)} parts, without {listed or 'a reason'}",
        where=Where(where.step, where.graph, islands[0].module if islands else "", where.path),
        hint="`modelc inspect --target` says of each operator what to do; --allow-cpu-fallback "
        "leaves these to the CPU",
    )


def to_json(partition: Partition) -> dict[str, Any]:
    return asdict(partition)


def from_json(document: Mapping[str, Any]) -> Partition:
    return Partition(
        htp=tuple(map(tuple, document["htp"])),
        cpu=tuple(PlacedNode(**row) for row in document["cpu"]),
    )

"""Reads from a session which of a network's nodes run where. Worker processes only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.ir.onnx_file import read_proto
from modelc.targets.snapdragon.compile_worker import modules_of
from modelc.targets.snapdragon.network.places import BOUNDARY, STRANDED, Partition, PlacedNode
from modelc.targets.snapdragon.network.source_names import SourceNames, read_dumps, wiring_of

CPU: Final = "CPUExecutionProvider"


@dataclass(frozen=True)
class Source:
    """The model behind a session.

    Attributes:
        names: the way back to its nodes.
        modules: module path by node.
        edge: the nodes that quantise an input or dequantise an output.
    """

    names: SourceNames
    modules: Mapping[str, str]
    edge: frozenset[str]


def read_source(model: Path, dumps: Path) -> Source:
    """Return the model of a session that dumped its graphs into `dumps`."""
    graph = read_proto(model).graph
    inputs, outputs = ({value.name for value in side} for side in (graph.input, graph.output))
    edge = frozenset(
        node.name
        for node in graph.node
        if (node.op_type == "QuantizeLinear" and node.input[0] in inputs)
        or (node.op_type == "DequantizeLinear" and node.output[0] in outputs)
    )
    return Source(SourceNames(wiring_of(graph.node), read_dumps(dumps)), modules_of(model), edge)


def nodes_on_cpu(session: Any) -> list[Any]:
    """Return what ONNX Runtime's CPU provider got, of a session that records places."""
    parts = session.get_provider_graph_assignment_info()
    return [node for part in parts if part.ep_name == CPU for node in part.get_nodes()]


def partition_of(session: Any, source: Source, reasons: Mapping[str, str]) -> Partition:
    """Return how a session, which records places, is spread.

    Args:
        reasons: why the provider refused a node, by its name in the provider's graph.
    """
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name != CPU]
    return Partition(
        htp=tuple(_sources((n.name for n in part.get_nodes()), source.names) for part in parts),
        cpu=tuple(_placed(node, source, reasons) for node in nodes_on_cpu(session)),
    )


def _sources(provider_nodes: Iterable[str], names: SourceNames) -> tuple[str, ...]:
    """Return the model's nodes behind some of the provider's, each once."""
    return tuple(dict.fromkeys(name for node in provider_nodes for name in names.of(node)))


def _placed(node: Any, source: Source, reasons: Mapping[str, str]) -> PlacedNode:
    nodes = source.names.of(node.name)
    why = reasons.get(node.name, STRANDED)
    if nodes and all(name in source.edge for name in nodes):
        why = BOUNDARY
    paths = dict.fromkeys(source.modules[name] for name in nodes if name in source.modules)
    return PlacedNode("+".join(nodes) or node.name, node.op_type, "+".join(paths), why)

"""Which nodes of the model a node of the provider's graph stands for.

ONNX Runtime fuses nodes and gives them new names before the provider sees them, and turns what
HTP wants channels-last, which puts in Transposes and renames the rest. The provider dumps the graph
as it sees it, so the way back leads through names of values, which ONNX Runtime keeps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

DUMPED: Final = "*_qnn_ep_input_graph.json"
MAX_DUMP_BYTES: Final = 1 << 30

_RENAMED: Final = re.compile(r"_token_\d+$")
_INDEX: Final = re.compile(r"\.(\d+)_qnn_ep_input_graph\.json$")


@dataclass(frozen=True)
class Wiring:
    """A node's place in a graph, by names of values."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Graph = Mapping[str, Wiring]


def dump_options(folder: Path) -> dict[str, str]:
    """Return the provider's options that make it dump the graphs that it sees."""
    return {"dump_qnn_ep_input_graph": "1", "dump_qnn_ep_input_graph_dir": str(folder)}


def read_dumps(folder: Path) -> tuple[Graph, ...]:
    """Return the graphs that the provider saw, the latest last. None if it dumped none."""
    found = {
        int(match.group(1)): path
        for path in folder.glob(DUMPED)
        if (match := _INDEX.search(path.name)) and path.stat().st_size <= MAX_DUMP_BYTES
    }
    return tuple(_read(found[index]) for index in sorted(found))


def wiring_of(nodes: Sequence[Any]) -> Graph:
    """Return the wiring of ONNX nodes by their names."""
    return {node.name: Wiring(tuple(node.input), tuple(node.output)) for node in nodes}


@dataclass(frozen=True)
class SourceNames:
    """The way back from the provider's names.

    Attributes:
        source: the model.
        seen: the graphs that the provider saw.
    """

    source: Graph
    seen: tuple[Graph, ...]

    def of(self, name: str) -> tuple[str, ...]:
        """Return the source's nodes that a node stands for, in the source's order; none if that
        can't be told.

        A node that was put in stands for the nodes that it was put in for: a Transpose behind a
        Conv for the Conv, one before it likewise.
        """
        return self._search(name, frozenset())

    def _search(self, name: str, asked: frozenset[str]) -> tuple[str, ...]:
        plain = self._plain(name)
        for candidate in (name, plain):
            if candidate in self.source:
                return (candidate,)
        seen = self._wiring.get(name) or self._wiring.get(plain)
        if seen is None or name in asked:
            return ()
        if known := [output for output in seen.outputs if output in self._producers]:
            return self._cone(known)
        for consumer in self._consumers(seen):
            if found := self._search(consumer, asked | {name}):
                return found
        return ()

    def _plain(self, name: str) -> str:
        """Return a name without what ONNX Runtime adds to it for another layout; a Transpose that
        it puts in beside the model's own "Transpose" only looks like one that was renamed."""
        plain = _RENAMED.sub("", name)
        beside = any(name in graph and plain in graph for graph in self.seen)
        return name if beside else plain

    def _cone(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Return the source's nodes that make `outputs` of values that the provider sees."""
        found: set[str] = set()
        open_values = list(outputs)
        while open_values:
            producer = self._producers.get(open_values.pop())
            if producer is None or producer in found:
                continue
            found.add(producer)
            inputs = self.source[producer].inputs
            open_values.extend(value for value in inputs if value not in self._visible)
        return tuple(name for name in self.source if name in found)

    def _consumers(self, wiring: Wiring) -> list[str]:
        outputs = set(wiring.outputs)
        return [
            name
            for graph in reversed(self.seen)
            for name, other in graph.items()
            if outputs & set(other.inputs)
        ]

    @cached_property
    def _producers(self) -> dict[str, str]:
        return {value: name for name, w in self.source.items() for value in w.outputs if value}

    @cached_property
    def _wiring(self) -> dict[str, Wiring]:
        """By name; what the provider saw first still has the source's values."""
        return {name: wiring for g in reversed(self.seen) for name, wiring in g.items()}

    @cached_property
    def _visible(self) -> frozenset[str]:
        # Later graphs call values channels-last by names that the source may use for others.
        wirings = [wiring for graph in self.seen[:1] for wiring in graph.values()]
        return frozenset(value for w in wirings for value in (*w.inputs, *w.outputs))


def _read(path: Path) -> Graph:
    nodes = json.loads(path.read_text())["graph"]["nodes"]
    return {
        name: Wiring(tuple(node["input_names"]), tuple(node["output_names"]))
        for name, node in nodes.items()
    }

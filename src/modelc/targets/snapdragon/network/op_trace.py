"""Which nodes of a network each operator of its QNN graphs comes from, as the provider tells while
it makes them. A binary only keeps the QNN operators' names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import Damaged, Where
from modelc.files import write_atomic
from modelc.targets.snapdragon.network.source_names import SourceNames

FILE: Final = "qnn_op_trace.json"
MAX_BYTES: Final = 1 << 28
FORMAT: Final = "modelc.operators/2"


@dataclass(frozen=True)
class Operator:
    """An operator of a QNN graph.

    Attributes:
        kind: QNN's name of what it does, "Conv2d".
        nodes: the model's nodes that it does, none for what the compiler puts in.
        modules: their module paths.
    """

    kind: str
    nodes: tuple[str, ...]
    modules: tuple[str, ...]


Operators = Mapping[str, Mapping[str, Operator]]
"""By the QNN graph's name, then by the QNN operator's."""


def trace_options(folder: Path) -> dict[str, str]:
    """Return the provider's options that make it leave a trace in `folder`."""
    return {"enable_framework_op_trace": "1", "framework_op_trace_dir": str(folder)}


def read_trace(folder: Path) -> dict[str, Any]:
    """Return the provider's trace; an empty one if it left none."""
    path = folder / FILE
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return {}
    return dict(json.loads(path.read_text()))


def operators_of(
    trace: Mapping[str, Any], names: SourceNames, modules: Mapping[str, str]
) -> dict[str, dict[str, Operator]]:
    """Return the QNN operators of a trace.

    Args:
        modules: module path of each of the model's nodes.
    """
    found: dict[str, dict[str, Operator]] = {}
    for part in trace.get("subgraph_traces") or ():
        operators = found.setdefault(part["graph_name"], {})
        for row in part["op_mappings"]:
            nodes: dict[str, None] = {}
            for source in row["sources"]:
                if source["type"] == "OP":
                    nodes.update(dict.fromkeys(names.of(source["name"])))
            paths = dict.fromkeys(modules[name] for name in nodes if name in modules)
            operators[row["dst_name"]] = Operator(
                row["dst_qnn_op_type"], tuple(nodes), tuple(paths)
            )
    return found


def refusals_of(trace: Mapping[str, Any]) -> dict[str, str]:
    """Return why the provider refused a node, by the node's name in its graph."""
    rows = trace.get("unsupported_nodes") or ()
    return {row["node_name"]: row["reason"] for row in rows}


def write_operators(path: Path, operators: Operators) -> None:
    rows = {
        graph: {name: asdict(operator) for name, operator in found.items()}
        for graph, found in operators.items()
    }
    document = {"format": FORMAT, "graphs": rows}
    write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def read_operators(path: Path) -> dict[str, dict[str, Operator]]:
    """Return what `write_operators` wrote.

    Raises:
        Damaged: it is something else.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError("another format")
        return {
            graph: {name: _operator(row) for name, row in rows.items()}
            for graph, rows in document["graphs"].items()
        }
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise Damaged(
            "not the record of a compiled network's operators",
            where=Where(path=str(path)),
            hint="compile it again",
        ) from error


def _operator(row: Any) -> Operator:
    lists = row["nodes"], row["modules"]
    texts = [row["kind"], *(text for texts in lists for text in texts)]
    if not all(isinstance(texts, list) for texts in lists):
        raise TypeError("no lists")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("no names")
    return Operator(row["kind"], *map(tuple, lists))

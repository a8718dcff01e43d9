"""What an exported program says of itself, told without PyTorch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.frontends.torch.archive.container import (
    CONSTANTS,
    MODELS,
    WEIGHTS,
    Container,
    open_container,
)
from modelc.frontends.torch.archive.program import input_shapes, open_sizes
from modelc.frontends.torch.archive.sizes import shown
from modelc.frontends.torch.archive.values import PRINTABLE, items, mapping, text

_VERSION: Final = re.compile(r"[A-Za-z0-9_.+<=-]{1,99}")


@dataclass(frozen=True)
class Summary:
    """An exported program from outside.

    Attributes:
        torch: the version that wrote it.
        inputs: sizes by name; one that is open is an expression of its symbols.
        open_sizes: where each symbol stands.
        operators: how often each is called, the commonest first.
        weights, weight_bytes: entries of weights and constants, and their bytes.
    """

    torch: str
    inputs: dict[str, list[int | str]]
    open_sizes: dict[str, str]
    operators: dict[str, int]
    weights: int
    weight_bytes: int


def summarise(path: Path) -> Summary:
    """Return what an archive holds, whether or not it can be compiled.

    Raises:
        BadInput: it can't be read.
    """
    with open_container(path) as archive:
        document = archive.json(f"{MODELS}{archive.model}.json")
        module = mapping(document.get("graph_module"), "a program")
        graph = module.get("graph")
        given = _given(mapping(module.get("signature"), "a signature"))
        payloads = list(_payloads(archive))
        return Summary(
            torch=text(document.get("torch_version"), "the version of torch", _VERSION),
            inputs={
                name: [shown(size) if isinstance(size, str) else size for size in shape]
                for name, shape in input_shapes(graph).items()
                if name in given
            },
            open_sizes=open_sizes(graph),
            operators=dict(Counter(_targets(graph)).most_common()),
            weights=len(payloads),
            weight_bytes=sum(payloads),
        )


def _given(signature: dict[str, Any]) -> set[str]:
    """Return the names of the inputs that are no weights."""
    names = set()
    for item in items(signature.get("input_specs"), "inputs"):
        match item:
            case {"user_input": {"arg": {"as_tensor": {"name": str(name)}}}}:
                names.add(name)
    return names


def _targets(graph: Any) -> Iterator[str]:
    for node in items(mapping(graph, "a graph").get("nodes"), "nodes"):
        yield text(mapping(node, "a node").get("target"), "what a node calls", PRINTABLE)


def _payloads(archive: Container) -> Iterator[int]:
    """Yield the bytes of each entry of weights."""
    for name, entry in archive.entries.items():
        if name.startswith((WEIGHTS, CONSTANTS)) and not name.endswith(".json"):
            yield entry.file_size

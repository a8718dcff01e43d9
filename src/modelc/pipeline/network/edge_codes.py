"""How the inputs and outputs of a network are encoded whose binary takes and gives codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from modelc.errors import Damaged, Where
from modelc.ir.encodings import Encoding, from_row

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelc.pipeline.network.runtime import Arrays, NetworkRuntime

CODES: Final = "codes.json"


def edge_codes(coded: ir.Model, encodings: Mapping[str, Encoding]) -> dict[str, Any]:
    """Return the rows of those inputs and outputs of a quantised graph that are codes.

    Args:
        encodings: of the graph that it was made of, by the names of its values.
    """
    edge = (str(value.name) for value in (*coded.graph.inputs, *coded.graph.outputs)
            if value.dtype is not None and value.dtype.is_integer())  # fmt: skip
    return {name: asdict(encodings[name]) for name in edge if name in encodings}


def read_codes(folder: Path) -> dict[str, Any]:
    """Return what the step `quantize` wrote of a network that takes codes."""
    rows: dict[str, Any] = json.loads((folder / CODES).read_text())
    return rows


class CodedEdges:
    """A network that takes and gives codes, as one that takes and gives floats.

    Args:
        rows: name of an input or output -> its encoding, as `edge_codes` has them.

    Raises:
        Damaged: a row is no encoding.
    """

    def __init__(self, network: NetworkRuntime, rows: Mapping[str, Any]) -> None:
        self.name = network.name
        self._network, self._encodings = network, encodings_of(rows)

    def run(self, feeds: Iterable[Arrays]) -> Iterator[dict[str, np.ndarray]]:
        """Yield the outputs of each feed."""
        coded = (encoded(feed, self._encodings) for feed in feeds)
        for made in self._network.run(coded):
            yield {
                name: self._encodings[name].dequantise(array) if name in self._encodings else array
                for name, array in made.items()
            }


def encodings_of(rows: Mapping[str, Any]) -> dict[str, Encoding]:
    """Return encodings of their rows; raises Damaged for what is none."""
    try:
        return {name: from_row(name, row) for name, row in rows.items()}
    except (ValueError, AttributeError) as error:
        raise Damaged(str(error), where=Where(graph="network")) from error


def encoded(feed: Arrays, encodings: Mapping[str, Encoding]) -> dict[str, np.ndarray]:
    """Return a feed whose floats are codes where there are encodings for them."""
    return {
        name: encodings[name].quantise(array) if name in encodings else array
        for name, array in feed.items()
    }

"""Which encoding every tensor of a static graph gets.

Most are known by name; tensors that lowering made follow from what made them. Tensors that an
operator only moves share one encoding wide enough for each, so that moving never requantises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.encodings import Encoding, from_range
from modelc.ir.provenance import canonical_name, module_of

# Operators that only move values about, and how many of their inputs are data (None: all).
_MOVES: Final[Mapping[str, int | None]] = {
    "Concat": None,
    "Gather": 1,
    "Reshape": 1,
    "Split": 1,
    "Transpose": 1,
}


def value_encodings(
    graph: ir.Graph, known: Mapping[str, Encoding], tables: Mapping[ir.Value, Encoding]
) -> dict[ir.Value, Encoding]:
    """Return the encoding of every float graph input and node output, and of `tables`.

    Args:
        known: by canonical name.
        tables: initialisers that `Gather` looks up.

    Raises:
        ModelcError: nothing says how a tensor is encoded.
    """
    return encodings_between(graph.inputs, graph, known, tables)


def encodings_between(
    inputs: Iterable[ir.Value],
    nodes: Iterable[ir.Node],
    known: Mapping[str, Encoding],
    tables: Mapping[ir.Value, Encoding],
) -> dict[ir.Value, Encoding]:
    """Return what `value_encodings` does for some nodes of a graph and what they take."""
    needed = dict(tables)
    together = {value: [value] for value in tables}

    def add(value: ir.Value, encoding: Encoding) -> None:
        needed[value], together[value] = encoding, [value]

    for value in inputs:
        if value.dtype == ir.DataType.FLOAT:
            add(value, known.get(canonical_name(value)) or _unknown(value, "the graph's inputs"))
    for node in nodes:
        sources = moved_by(node)
        for value in node.outputs:
            encoding = known.get(canonical_name(value)) or _inherited(node, value, needed)
            table = tables.get(sources[0]) if sources else None
            if table and table.dtype == encoding.dtype:
                encoding = table  # exact; the range of what was looked up was only seen
            add(value, encoding)
            for source in sources:
                if needed[source].dtype == needed[value].dtype:
                    _join(together, source, value)
    widest = {id(group): _widest([needed[value] for value in group]) for group in together.values()}
    return {value: widest[id(group)] for value, group in together.items()}


def moved_by(node: ir.Node) -> list[ir.Value]:
    """Return the inputs whose values a node only moves (none if it computes)."""
    if node.op_type not in _MOVES:
        return []
    return [value for value in node.inputs[: _MOVES[node.op_type]] if value is not None]


def _join(together: dict[ir.Value, list[ir.Value]], one: ir.Value, other: ir.Value) -> None:
    if together[one] is not together[other]:
        group = together[one] + together[other]
        together.update(dict.fromkeys(group, group))


def _widest(encodings: Sequence[Encoding]) -> Encoding:
    first = encodings[0]
    if all(encoding == first for encoding in encodings):
        return first
    low = min(encoding.minimum for encoding in encodings)
    high = max(encoding.maximum for encoding in encodings)
    return from_range(low, high, first.dtype)


def _inherited(node: ir.Node, value: ir.Value, needed: Mapping[ir.Value, Encoding]) -> Encoding:
    """What is only moved keeps its encoding; x times a positive constant has the codes of x under
    a scale multiplied as well."""
    source = node.inputs[0]
    encoding = needed.get(source) if source is not None else None
    if encoding and moved_by(node):
        return encoding
    if encoding and node.op_type == "Mul" and (factor := _constant(node.inputs[1])) > 0:
        return Encoding(encoding.scale * factor, encoding.zero_point, encoding.dtype)
    return _unknown(value, module_of(node))


def _constant(value: ir.Value | None) -> float:
    """Return the number that a value always is, 0 if it varies."""
    tensor = value.const_value if value is not None else None
    return float(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else 0.0


def _unknown(value: ir.Value, module: str) -> NoReturn:
    raise ModelcError(
        f"nothing says how {value.name} is encoded",
        where=Where(module=module),
        hint="ranges must be gathered on the expanded graph of the same model",
    )

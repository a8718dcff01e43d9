"""Peak memory of a graph's activations, from the lifetimes of its values in node order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.provenance import module_of
from modelc.ir.sizes import evaluate

# Outputs of these share their first input's memory.
_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True)
class Peak:
    """The most bytes of activations alive at once, and the module where that is."""

    nbytes: int
    module: str


def peak_activations(
    model: ir.Model, sizes: Mapping[str, int], element_bytes: int | None = None
) -> Peak:
    """Return the peak of values made by nodes; graph inputs, outputs and weights don't count.

    A value lives from the node that makes it to the last node that reads it.

    Args:
        model: nodes in execution order, a shape on every value.
        sizes: value of every symbolic dimension.
        element_bytes: bytes per element of float values (None: as their dtype says).

    Raises:
        ModelcError: a value has no shape, or a dimension is not in `sizes`.
    """
    graph = model.graph
    storage: dict[ir.Value, ir.Value] = {}
    for node in graph:
        for value in node.outputs:
            source = node.inputs[0] if node.op_type in _VIEWS else None
            storage[value] = storage.get(source, value) if source in storage else value
    last_use = {
        storage[value]: index
        for index, node in enumerate(graph)
        for value in node.inputs
        if value is not None and value in storage
    }
    kept = {storage[value] for value in graph.outputs if value in storage}
    alive = peak = 0
    module = ""
    held: dict[int, list[int]] = {}  # node index after which these sizes are freed
    for index, node in enumerate(graph):
        for value in node.outputs:
            if storage[value] is value and value not in kept:
                size = value_bytes(value, sizes, element_bytes)
                alive += size
                held.setdefault(last_use.get(value, index), []).append(size)
        if alive > peak:
            peak, module = alive, module_of(node)
        alive -= sum(held.pop(index, ()))
    return Peak(peak, module)


def value_bytes(value: ir.Value, sizes: Mapping[str, int], element_bytes: int | None = None) -> int:
    """Return the bytes of a value under the given sizes."""
    if value.shape is None or value.dtype is None:
        raise ModelcError(f"{value.name} has no shape", where=Where(module=str(value.name)))
    dims = evaluate(value.shape, sizes)
    if not all(isinstance(dim, int) for dim in dims):
        raise ModelcError(f"the size of {value.name} {dims} is not known")
    width = element_bytes if element_bytes and value.dtype.is_floating_point() else None
    bytes_each = width or max(value.dtype.itemsize, 1)
    return math.prod(int(str(dim)) for dim in dims) * int(bytes_each)

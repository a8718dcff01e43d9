"""Made-up feeds, for when there is nothing better: they show no range that real data would have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from modelc.quant.feeds.inputs import Feed, InputSpec, inputs_of

if TYPE_CHECKING:
    import onnx_ir as ir

_WORDS = 1000  # ids below this are in most vocabularies


def random_feeds(model: ir.Model, count: int, seed: int = 0) -> Iterator[Feed]:
    """Yield feeds that the inputs suit: normal numbers for floats, ids of rows of the table that
    is looked up, ones for masks, zeros for types of tokens; otherwise small integers.

    The caller says that ranges were made up.
    """
    specs = inputs_of(model)
    values = {str(value.name): value for value in model.graph.inputs}
    limits = {spec.name: _limit(values[spec.name]) for spec in specs}
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield {spec.name: _array(spec, limits[spec.name], random) for spec in specs}


def _array(spec: InputSpec, limit: int | None, random: np.random.Generator) -> np.ndarray:
    if "mask" in spec.name.lower():
        return np.ones(spec.shape, spec.dtype)
    if spec.dtype.kind == "f":
        return random.normal(size=spec.shape).astype(spec.dtype)
    if spec.dtype.kind == "b":
        return random.random(spec.shape) < 0.5
    if limit is None:
        if spec.dtype.kind == "u" and spec.dtype.itemsize == 1:
            limit = 256  # pixels
        else:
            limit = 1 if "type" in spec.name.lower() else _WORDS
    most = min(limit, int(np.iinfo(spec.dtype.name).max))
    return random.integers(0, most, spec.shape).astype(spec.dtype)


def _limit(value: ir.Value) -> int | None:
    """Return how many rows the table has that an integer input looks up, None if it looks up
    none."""
    for node, index in value.uses():
        if node.op_type in ("Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity") and index == 0:
            found = _limit(node.outputs[0])
            if found is not None:
                return found
        if node.op_type == "Gather" and index == 1:
            table = node.inputs[0]
            axis = node.attributes.get_int("axis", 0)
            if table is not None and table.shape is not None:
                size = table.shape[axis]
                if isinstance(size, int):
                    return size
    return None

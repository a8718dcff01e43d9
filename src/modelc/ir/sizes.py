"""Sizes as numbers: `past + sequence` is 6 where past is 4 and sequence 2."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir


def evaluate(shape: ir.Shape, sizes: Mapping[str, int]) -> ir.Shape:
    """Return a shape under the given sizes; dimensions that they don't give stay symbolic."""
    return ir.Shape(dim if isinstance(dim, int) else _evaluate(dim, sizes) for dim in shape)


def _evaluate(dim: ir.SymbolicDim, sizes: Mapping[str, int]) -> int | ir.SymbolicDim:
    # A decoder has names and sums of names only. The symbolic algebra behind `dim.evaluate` takes
    # milliseconds for each, and there are thousands.
    terms = (dim.value or "").split(" + ")
    if all(term in sizes for term in terms):
        return sum(sizes[term] for term in terms)
    return dim.evaluate(sizes)

"""Writing nodes whose every size is a number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, Sheet, dims_of


def scope_in(graph: ir.Graph, module: str) -> Scope:
    """Return a scope whose constants go straight into the graph."""
    return Scope(module, Sheet(initializers=graph.initializers))


def sizes_of(value: ir.Value) -> list[int]:
    """Return the dimensions of a value of a static graph."""
    sizes = [dim for dim in dims_of(value) if isinstance(dim, int)]
    assert len(sizes) == len(dims_of(value)), f"{value.name}: {value.shape}"
    return sizes


def shape_constant(scope: Scope, sizes: Sequence[int]) -> ir.Value:
    """Return the int64 initialiser that a Reshape to `sizes` reads, one for all of them."""
    return scope.constant(f"shape.{'x'.join(map(str, sizes))}", np.array(sizes, np.int64))


def reshape(scope: Scope, value: ir.Value, sizes: Sequence[int], name: str) -> ir.Value:
    return scope.emit("Reshape", [value, shape_constant(scope, sizes)], sizes, name)

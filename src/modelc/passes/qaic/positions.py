"""What follows from the positions of a call's tokens, computed once for all layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Dims, Scope, dims_of

NOWHERE: Final = int(np.iinfo(np.int32).max)
"""An index that the card neither reads nor writes."""

_INT, _BOOL = ir.DataType.INT64, ir.DataType.BOOL


@dataclass(frozen=True)
class Positions:
    """Values of the graph; n is how many positions attention looks at.

    Attributes:
        length: n, int64 [].
        written: where the new tokens' keys go, int64 [batch_size, seq_len].
        read: where attention's keys are, int64 [batch_size, 1, n], `NOWHERE` where none was
            written yet.
        unwritten: whether it is so, bool [batch_size, 1, n, 1].
        queries: positions of the new tokens, int64 [batch_size, 1, seq_len, 1].
        keys: 0 to n - 1, int64 [n].
        batch_index: whose tokens these are, int64 [batch_size, 1], None: the cache's own order.
    """

    length: ir.Value
    written: ir.Value
    read: ir.Value
    unwritten: ir.Value
    queries: ir.Value
    keys: ir.Value
    batch_index: ir.Value | None

    def visible(self, scope: Scope, name: str) -> ir.Value:
        """Write which keys a query sees, bool [batch_size, 1, seq_len, n]: those up to its own
        position; by the mask "window.W" the last W of them, by "full" all."""
        dims: Dims = ["batch_size", 1, "seq_len", *dims_of(self.keys)]
        behind = scope.emit(
            "LessOrEqual", [self.keys, self.queries], dims, f"{name}.behind", dtype=_BOOL
        )
        if name == "full":
            return behind
        width = scope.constant(f"mask.{name}.width", np.array(int(name.partition(".")[2])))
        query_dims = dims_of(self.queries)
        before = scope.emit("Sub", [self.queries, width], query_dims, f"{name}.before", dtype=_INT)
        near = scope.emit("Greater", [self.keys, before], dims, f"{name}.near", dtype=_BOOL)
        return scope.emit("And", [behind, near], dims, f"{name}.seen", dtype=_BOOL)


def write_positions(
    scope: Scope,
    position_ids: ir.Value,
    past: ir.Value,
    lengths: ir.Value | None,
    batch_index: ir.Value | None,
) -> Positions:
    """Write the nodes; n is the length of `lengths`, or where that is None of the cache `past`."""
    n = dims_of(lengths)[0] if lengths is not None else "ctx_len"

    def emit(op_type: str, inputs: list[ir.Value], dims: Dims, name: str) -> ir.Value:
        return scope.emit(op_type, inputs, dims, name, dtype=_INT)

    def number(name: str, value: int | list[int]) -> ir.Value:
        return scope.constant(scope.path(name), np.array(value, np.int64))

    sized, axis = (lengths, 0) if lengths is not None else (past, 2)
    shape = emit("Shape", [sized], [len(dims_of(sized))], "shape")
    length = emit("Gather", [shape, number("length_axis", axis)], [], "length")
    zero, one, nowhere = number("zero", 0), number("one", 1), number("nowhere", NOWHERE)
    keys = emit("Range", [zero, length, one], [n], "keys")
    across = number("query_axes", [1, 3])
    queries = emit("Unsqueeze", [position_ids, across], ["batch_size", 1, "seq_len", 1], "queries")
    last = scope.emit(
        "ReduceMax", [position_ids], ["batch_size", 1], "last", dtype=_INT, axes=[1], keepdims=1
    )
    column = emit("Unsqueeze", [last, number("last_axes", [2])], ["batch_size", 1, 1], "last_key")
    later: Dims = ["batch_size", 1, n]
    beyond = scope.emit("Greater", [keys, column], later, "beyond", dtype=_BOOL)
    read = emit("Where", [beyond, nowhere, keys], later, "read")
    rows = number("row_axes", [3])
    unwritten = scope.emit("Unsqueeze", [beyond, rows], [*later, 1], "unwritten", dtype=_BOOL)
    written = position_ids
    if batch_index is not None:  # the batched scatter doesn't take negative positions
        dims = dims_of(position_ids)
        padded = scope.emit("Less", [position_ids, zero], dims, "padded", dtype=_BOOL)
        written = emit("Where", [padded, nowhere, position_ids], dims, "written")
    return Positions(length, written, read, unwritten, queries, keys, batch_index)

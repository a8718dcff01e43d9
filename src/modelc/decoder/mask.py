"""Additive attention masks, made once for all layers: 0 where a query may look, else a minimum.

The minimum is finite, so that a sum with a score stays a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Dims, Scope

HIDDEN: Final = np.finfo(np.float32).min
_INT, _BOOL = ir.DataType.INT64, ir.DataType.BOOL
_DIMS: Final[Dims] = [1, 1, "sequence", "past + sequence"]


def attention_masks(
    scope: Scope, input_ids: ir.Value, past_key: ir.Value, windows: Sequence[int]
) -> dict[int, ir.Value]:
    """Return the mask of each window, float32 [1, 1, sequence, past + sequence].

    Query i is at key position past + i and sees the keys up to its own position; with a window W
    only the last W of them. Window 0 is full attention.
    """
    zero = scope.constant("mask.zero", np.array(0, np.int64))
    seen = scope.constant("mask.seen", np.array(0, np.float32))
    hidden = scope.constant("mask.hidden", np.array(HIDDEN, np.float32))
    distance = _distance(scope, input_ids, past_key)
    not_ahead = scope.emit("GreaterOrEqual", [distance, zero], _DIMS, "not_ahead", dtype=_BOOL)
    masks = {}
    for window in sorted(set(windows)):
        name, visible = "full", not_ahead
        if window:
            name = f"window.{window}"
            width = scope.constant(f"mask.{name}.width", np.array(window, np.int64))
            near = scope.emit("Less", [distance, width], _DIMS, f"{name}.near", dtype=_BOOL)
            visible = scope.emit("And", [not_ahead, near], _DIMS, f"{name}.visible", dtype=_BOOL)
        masks[window] = scope.emit("Where", [visible, seen, hidden], _DIMS, name)
    return masks


def _distance(scope: Scope, input_ids: ir.Value, past_key: ir.Value) -> ir.Value:
    """How many positions a key lies behind a query, int64 [1, 1, sequence, past + sequence]."""
    zero = scope.constant("mask.zero", np.array(0, np.int64))
    one = scope.constant("mask.one", np.array(1, np.int64))
    column = scope.constant("mask.column", np.array([1, 1, -1, 1], np.int64))
    row = scope.constant("mask.row", np.array([1, 1, 1, -1], np.int64))

    def size(value: ir.Value, axis: int, name: str) -> ir.Value:
        end = axis + 1
        vector = scope.emit("Shape", [value], [1], f"{name}.size", dtype=_INT, start=axis, end=end)
        return scope.emit("Squeeze", [vector], [], name, dtype=_INT)

    past = size(past_key, 2, "past")
    total = scope.emit("Add", [past, size(input_ids, 1, "sequence")], [], "total", dtype=_INT)
    queries = scope.emit("Range", [past, total, one], ["sequence"], "queries", dtype=_INT)
    keys = scope.emit("Range", [zero, total, one], ["past + sequence"], "keys", dtype=_INT)
    down = scope.emit("Reshape", [queries, column], [1, 1, "sequence", 1], "down", dtype=_INT)
    across = scope.emit("Reshape", [keys, row], [1, 1, 1, "past + sequence"], "across", dtype=_INT)
    return scope.emit("Sub", [down, across], _DIMS, "distance", dtype=_INT)

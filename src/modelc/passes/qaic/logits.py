"""Only the last tokens' hidden states go through the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.errors import ModelcError
from modelc.ir.emit import Scope, Sheet, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass

ROWS: Final = "num_logits_to_keep"
# What exporters of PyTorch call sizes that they can't follow.
_DIMS: Final = ("Castlogits_dim_0", "Castlogits_dim_1")
_INT, _INT32, _BOOL = ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL


@dataclass(frozen=True)
class KeepLogits(Pass):
    """`logits` [batch_size, rows, vocab]: of the token at the highest position of each sequence.

    Attributes:
        num_logits_to_keep: as many rows as the new input of this name is long, int64
            [num_logits_to_keep, 1]: those up to the highest position, or the first ones where it
            has fewer before it.
    """

    num_logits_to_keep: bool = False
    name: ClassVar[str] = "keep_logits"
    before: ClassVar[Stage] = "qaic"
    after: ClassVar[Stage] = "qaic"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        head = [node for node in graph if module_of(node) == "lm_head"]
        if not head:
            raise ModelcError("there is no head whose rows could be chosen")
        hidden = head[0].inputs[0]
        assert hidden is not None
        scope = Scope("lm_head", Sheet(initializers=graph.initializers))
        position_ids = graph.inputs[1]
        index = _last(scope, position_ids)
        rows: int | str = 1
        if self.num_logits_to_keep:
            kept = new_value(ROWS, [ROWS, 1], _INT)
            graph.inputs.append(kept)
            index, rows = _last_rows(scope, index, kept), ROWS
        axes = scope.constant("lm_head.index_axes", np.array([-1], np.int64))
        places = scope.emit("Unsqueeze", [index, axes], ["batch_size", rows, 1], "places",
                            dtype=_INT)  # fmt: skip
        dims = ["batch_size", rows, dims_of(hidden)[2]]
        chosen = scope.emit("GatherND", [hidden, places], dims, "kept", batch_dims=1)
        graph.insert_before(head[0], scope.sheet.nodes)
        for node in head:
            for place, value in enumerate(node.inputs):
                if value is hidden:
                    node.replace_input_with(place, chosen)
            for value in node.outputs:
                value.shape = ir.Shape(["batch_size", rows, dims_of(value)[2]])
        graph.outputs[0].shape = ir.Shape([*_DIMS, dims_of(graph.outputs[0])[2]])
        return model


def _last(scope: Scope, position_ids: ir.Value) -> ir.Value:
    """Where the highest position stands, int64 [batch_size, 1]."""
    dims = dims_of(position_ids)
    # ONNX Runtime's ArgMax takes int32.
    small = scope.emit("Cast", [position_ids], dims, "positions", dtype=_INT32, to=int(_INT32))
    return scope.emit("ArgMax", [small], ["batch_size", 1], "last", dtype=_INT, axis=1, keepdims=1)


def _last_rows(scope: Scope, last: ir.Value, kept: ir.Value) -> ir.Value:
    """The places of the rows up to `last`, int64 [batch_size, num_logits_to_keep]."""

    def emit(op_type: str, inputs: list[ir.Value], dims: list[int | str], name: str) -> ir.Value:
        return scope.emit(op_type, inputs, dims, name, dtype=_INT)

    zero = scope.constant("lm_head.zero", np.array(0, np.int64))
    one = scope.constant("lm_head.one", np.array(1, np.int64))
    size = emit("Shape", [kept], [2], "kept_shape")
    count = emit("Gather", [size, zero], [], "count")
    column: list[int | str] = ["batch_size", 1]
    first = emit("Sub", [emit("Add", [last, one], column, "end"), count], column, "begin")
    short = scope.emit("Less", [first, zero], column, "short", dtype=_BOOL)
    first = emit("Where", [short, zero, first], column, "first")
    steps = emit("Range", [zero, count, one], [ROWS], "steps")
    return emit("Add", [first, steps], ["batch_size", ROWS], "rows")

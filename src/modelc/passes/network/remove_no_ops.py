"""Operators that give back what they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import (
    constant_of,
    has_sizes,
    input_of,
    integer,
    integers,
    is_op,
    is_static,
    is_used,
    needed,
    sizes_of,
    text,
)


@dataclass(frozen=True)
class RemoveNoOps(Pass):
    """Identity, Dropout as it is at inference, casts to the same type, moves that move nothing,
    sums with 0 and products with 1, sums of one; inputs that are empty and so say nothing.

    What stands between an input and an output stays as Identity, because both names stay.
    """

    name: ClassVar[str] = "remove_no_ops"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        for node in list(model.graph):
            _leave_out_empty(node)
            same = NO_OPS.get(node.op_type) if node.domain == "" else None
            value = same(node) if same and has_sizes(node) else None
            if value is not None and not any(is_used(node, i) for i in range(1, len(node.outputs))):
                _forward(model.graph, node, value)
        return model


def _leave_out_empty(node: ir.Node) -> None:
    if is_op(node, "Concat"):
        _join_what_is_there(node)
    if is_op(node, "Split"):
        _split_off_nothing(node)
    for index in _EMPTY_IS_NONE.get(node.op_type, ()) if node.domain == "" else ():
        value = input_of(node, index)
        if is_static(value) and value is not None and 0 in sizes_of(value):
            node.replace_input_with(index, None)


def _join_what_is_there(concat: ir.Node) -> None:
    """Parts without elements are nothing; HTP has no such tensors."""
    if not all(map(is_static, (*concat.inputs, *concat.outputs))):
        return
    parts = [value for value in concat.inputs if value and 0 not in sizes_of(value)]
    if 0 < len(parts) < len(concat.inputs):
        concat.resize_inputs(len(parts))
        for index, value in enumerate(parts):
            concat.replace_input_with(index, value)


def _split_off_nothing(split: ir.Node) -> None:
    """Where the first part is the whole, the others have no elements."""
    first, used = split.outputs[0], any(is_used(split, i) for i in range(1, len(split.outputs)))
    if not used and is_static(first) and sizes_of(first) == sizes_of(needed(split)):
        split.resize_outputs(1)


def _forward(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Let the readers of a node's result read `value`."""
    result = node.outputs[0]
    if result.is_graph_output():
        producer = value.producer()
        if producer is None or value.is_graph_output():
            if not is_op(node, "Identity"):
                _make_identity(node, value)
            return
        name = result.name
        result.replace_all_uses_with(value, replace_graph_outputs=True)
        result.name = None
        value.name = name
        if producer.outputs[0] is value:
            producer.name = name
    else:
        result.replace_all_uses_with(value)
    graph.remove(node, safe=True)


def _make_identity(node: ir.Node, value: ir.Value) -> None:
    node.op_type = "Identity"
    node.attributes.clear()
    node.resize_inputs(1)
    node.replace_input_with(0, value)
    node.resize_outputs(1)


_EMPTY_IS_NONE: Final[Mapping[str, tuple[int, ...]]] = {
    **{f"Reduce{what}": (1,) for what in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min",
                                          "Prod", "Sum", "SumSquare")},
    "Resize": (1, 2, 3),
}  # fmt: skip
"""Inputs that mean the same when they are empty as when they are left out."""

Same = Callable[[ir.Node], ir.Value | None]


def _always(node: ir.Node) -> ir.Value | None:
    return needed(node)


def _dropout(node: ir.Node) -> ir.Value | None:
    """In training mode it drops; the mask of inference, all true, is left to another pass."""
    training = constant_of(input_of(node, 2))
    asked = input_of(node, 2) is not None and (training is None or bool(training))
    return None if asked else needed(node)


def _cast(node: ir.Node) -> ir.Value | None:
    value = needed(node)
    return value if value.dtype == ir.DataType(integer(node, "to", 0)) else None


def _same_sizes(node: ir.Node) -> ir.Value | None:
    """Reshape, Expand and their like: what has the same sizes afterwards was not moved."""
    value = needed(node)
    return value if sizes_of(value) == sizes_of(node.outputs[0]) else None


def _transpose(node: ir.Node) -> ir.Value | None:
    value = needed(node)
    rank = len(sizes_of(value))
    perm = integers(node, "perm", range(rank)[::-1])
    moved = [axis for axis in perm if sizes_of(value)[axis] != 1]
    # Axes of size 1 among each other may change places.
    return value if moved == sorted(moved) and _same_sizes(node) is not None else None


def _slice(node: ir.Node) -> ir.Value | None:
    steps = constant_of(input_of(node, 4))
    forward = input_of(node, 4) is None or (steps is not None and bool((steps > 0).all()))
    return _same_sizes(node) if forward else None


def _pad(node: ir.Node) -> ir.Value | None:
    pads = constant_of(input_of(node, 1))
    return needed(node) if pads is not None and not pads.any() else None


def _one_operand(node: ir.Node) -> ir.Value | None:
    return needed(node) if len(node.inputs) == 1 else None


def _neutral(number: float, *, right_only: bool = False) -> Same:
    def same(node: ir.Node) -> ir.Value | None:
        for index in (1,) if right_only else (1, 0):
            other = constant_of(node.inputs[index])
            value = needed(node, 1 - index)
            small = other is not None and other.size <= 1 << 16
            if small and bool(np.all(other == number)) and value.dtype == node.outputs[0].dtype:
                same_sizes = sizes_of(value) == sizes_of(node.outputs[0])
                return value if same_sizes else None
        return None

    return same


def _clip(node: ir.Node) -> ir.Value | None:
    return needed(node) if input_of(node, 1) is None and input_of(node, 2) is None else None


def _resize(node: ir.Node) -> ir.Value | None:
    """A crop has other coordinates even where the size stays."""
    crop = text(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    return None if crop else _same_sizes(node)


NO_OPS: Final[Mapping[str, Same]] = {
    "Add": _neutral(0),
    "Cast": _cast,
    "CastLike": lambda node: needed(node) if needed(node).dtype == node.outputs[0].dtype else None,
    "Clip": _clip,
    "Concat": _one_operand,
    "Div": _neutral(1, right_only=True),
    "Dropout": _dropout,
    "Expand": _same_sizes,
    "Flatten": _same_sizes,
    "Identity": _always,
    "Max": _one_operand,
    "Mean": _one_operand,
    "Min": _one_operand,
    "Mul": _neutral(1),
    "Pad": _pad,
    "Pow": _neutral(1, right_only=True),
    "Reshape": _same_sizes,
    "Resize": _resize,
    "Slice": _slice,
    "Split": lambda node: _same_sizes(node) if len(node.outputs) == 1 else None,
    "Squeeze": _same_sizes,
    "Sub": _neutral(0, right_only=True),
    "Sum": _one_operand,
    "Tile": _same_sizes,
    "Transpose": _transpose,
    "Unsqueeze": _same_sizes,
}

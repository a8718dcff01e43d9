"""How far down a tensor's codes must reach, if all that becomes of it is a Softmax.

A mask adds -10000 or float32's smallest to scores. Of what lies far below the largest score of a
row, softmax makes nothing, however far it is: codes that end a little below serve as well, and
leave the others fine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from modelc.ir.network_encodings import is_float
from modelc.quant.network.calibrate import NetworkStatistics
from modelc.quant.network.moves import moved_by

_BOUNDS: Final = frozenset({"Clip", "Max", "Min"})
"""What they make isn't below the floor where a number isn't that they read."""


def floors_of(graph: ir.Graph, seen: NetworkStatistics, room: float) -> dict[ir.Value, float]:
    """Return the lowest number that codes must tell apart, of each value that only leads to
    Softmax by way of sums, products with positive constants, bounds and moves.

    Args:
        room: how far below the smallest of the rows' largest scores that is; e^-room is what may
            be lost.
    """
    outputs = set(graph.outputs)
    floors: dict[ir.Value, float] = {}
    values = [v for node in graph for v in node.outputs]
    for value in [*reversed(values), *graph.initializers.values(), *graph.inputs]:
        if not is_float(value) or value in outputs or not value.consumers():
            continue
        found = [_floor(value, node, floors, seen, room) for node in set(value.consumers())]
        known = [floor for floor in found if floor is not None]
        if len(known) == len(found):
            floors[value] = min(known)
    return floors


def _floor(
    value: ir.Value,
    reader: ir.Node,
    floors: Mapping[ir.Value, float],
    seen: NetworkStatistics,
    room: float,
) -> float | None:
    """Return how low one reader needs a value, None if it needs all of it."""
    if reader.op_type == "Softmax":
        peak = seen.peaks.get(str(value.name))
        return None if peak is None else peak - room
    behind = floors.get(reader.outputs[0])
    if behind is None:
        return None
    if value in moved_by(reader) or reader.op_type in _BOUNDS:
        return behind
    others = [other for other in reader.inputs if other is not None and other is not value]
    if len(others) != 1:
        return None
    if reader.op_type == "Add":
        highest = _highest(others[0], seen)
        return None if highest is None else behind - highest
    factor = _positive(others[0])
    if factor and reader.op_type == "Mul":
        return behind / factor
    if factor and reader.op_type == "Div" and reader.inputs[0] is value:
        return behind * factor
    return None


def _highest(value: ir.Value, seen: NetworkStatistics) -> float | None:
    if value.const_value is not None:
        return float(value.const_value.numpy().max())
    found = seen.tensors.get(str(value.name))
    return found.high if found else None


def _positive(value: ir.Value) -> float:
    """Return the number that a value always is if it is positive, 0 otherwise."""
    tensor = value.const_value
    return max(float(tensor.numpy().reshape(())), 0.0) if tensor and tensor.size == 1 else 0.0

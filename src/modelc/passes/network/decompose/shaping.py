"""Moves, pads and masks in forms that HTP doesn't take."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    needed,
    sizes_of,
    text,
)
from modelc.passes.network.sketch import Sketch


def trilu(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Where a constant mask says so; a product would make NaN of infinite numbers."""
    x, given = needed(node), input_of(node, 1)
    diagonal = constant_of(given)
    if given is not None and diagonal is None:
        return None
    k = 0 if diagonal is None else int(diagonal.reshape(()))
    *batch, rows, columns = sizes_of(x)
    full = np.ones((rows, columns), bool)
    kept = np.triu(full, k) if integer(node, "upper", 1) else np.tril(full, k)
    mask = s.constant(kept.reshape(*[1] * len(batch), rows, columns), "mask")
    return [s.where(mask, x, s.number(0, x, "zero"))]


def pad(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Pads for some axes only, negative ones, and edges, which HTP computes wrongly: each axis is
    looked up with constant indices."""
    x, mode = needed(node), text(node, "mode", "constant")
    amounts, sizes = constant_of(node.inputs[1]), sizes_of(x)
    axes_given = input_of(node, 3)
    axes_array = constant_of(axes_given)
    if amounts is None or (axes_given is not None and axes_array is None):
        return None
    axes = range(len(sizes)) if axes_array is None else [int(a) % len(sizes) for a in axes_array]
    before, after = [0] * len(sizes), [0] * len(sizes)
    for index, axis in enumerate(axes):
        before[axis], after[axis] = int(amounts[index]), int(amounts[len(axes) + index])
    if mode == "constant":
        plain = axes_given is None and min(before + after, default=0) >= 0
        return None if plain else [_constant_pad(s, node, x, before, after)]
    inside = all(
        0 <= n < size for side in (before, after) for n, size in zip(side, sizes, strict=True)
    )
    if mode == "reflect" and axes_given is None and inside and dtype_of(x).is_floating_point():
        return None
    for axis, size in enumerate(sizes):
        if before[axis] or after[axis]:
            places = _places(mode, size, np.arange(-before[axis], size + after[axis]))
            x = s.take(x, places, axis)
    return [x]


def _constant_pad(
    s: Sketch, node: ir.Node, x: ir.Value, before: list[int], after: list[int]
) -> ir.Value:
    for axis, size in enumerate(sizes_of(x)):
        low, high = max(0, -before[axis]), size - max(0, -after[axis])
        if (low, high) != (0, size):
            x = s.slice(x, axis, low, high)
    wide = [max(0, n) for n in before], [max(0, n) for n in after]
    if not any(wide[0] + wide[1]):
        return x
    number = input_of(node, 2) or s.number(0, x)
    pads = s.integers([*wide[0], *wide[1]], "pads")
    return s.op("Pad", [x, pads, number], sizes_of(node.outputs[0]), mode="constant")


def _places(mode: str, size: int, wanted: np.ndarray) -> np.ndarray:
    """Return which element stands at each place, counted from the first real one."""
    if mode == "edge":
        return wanted.clip(0, size - 1)
    if mode == "wrap":
        return wanted % size
    if size == 1:
        return np.zeros_like(wanted)
    period = 2 * (size - 1)  # reflect, as often as it takes
    turned = wanted % period
    return np.where(turned < size, turned, period - turned)


def center_crop_pad(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x = needed(node)
    before, after = [], []
    for size, wanted in zip(sizes_of(x), sizes_of(node.outputs[0]), strict=True):
        missing = wanted - size
        first = missing // 2 if missing > 0 else -((-missing) // 2)
        before.append(first)
        after.append(missing - first)
    for axis, size in enumerate(sizes_of(x)):
        low, high = max(0, -before[axis]), size - max(0, -after[axis])
        if (low, high) != (0, size):
            x = s.slice(x, axis, low, high)
    return [s.pad(x, [max(0, n) for n in before], [max(0, n) for n in after])]


def reverse_sequence(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Of constant lengths: a look-up in the two axes as one."""
    x, lengths = needed(node), constant_of(node.inputs[1])
    if lengths is None:
        return None
    sizes = sizes_of(x)
    time, batch = integer(node, "time_axis", 0), integer(node, "batch_axis", 1)
    steps, count = sizes[time], sizes[batch]
    order = np.arange(steps)[:, None].repeat(count, 1)
    for index, length in enumerate(int(n) for n in lengths):
        order[:length, index] = np.arange(length)[::-1]
    places = order * count + np.arange(count)
    if time > batch:
        places = (order + np.arange(count) * steps).T
    flat = s.reshape(x, [steps * count, *sizes[2:]])
    return [s.reshape(s.take(flat, places.reshape(-1), 0), sizes)]


def compress(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Of a constant condition: a look-up."""
    x, condition = needed(node), constant_of(node.inputs[1])
    if condition is None:
        return None
    places = np.flatnonzero(condition)
    if "axis" in node.attributes:
        return [s.take(x, places, integer(node, "axis", 0) % len(sizes_of(x)))]
    count = int(np.prod(sizes_of(x)))
    return [s.take(s.reshape(x, [count]), places, 0)]


def eye_like(s: Sketch, node: ir.Node) -> list[ir.Value]:
    rows, columns = sizes_of(needed(node))
    dtype = dtype_of(node.outputs[0]).numpy()
    eye = s.constant(np.eye(rows, columns, integer(node, "k", 0), dtype=dtype), "eye")
    return [eye]


def cast_like(s: Sketch, node: ir.Node) -> list[ir.Value]:
    return [s.cast(needed(node), dtype_of(node.outputs[0]))]


def reshape(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Sizes as they are: the provider knows no zeros, and computed ones not at all."""
    wanted, sizes = constant_of(node.inputs[1]), sizes_of(node.outputs[0])
    plain = wanted is not None and tuple(int(n) for n in wanted) == sizes
    if plain and not integer(node, "allowzero", 0):
        return None
    shape = s.integers(sizes, "sizes")
    return [s.op("Reshape", [needed(node), shape], sizes)]

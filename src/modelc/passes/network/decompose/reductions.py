"""Reductions along axes, sums along the way, and where the largest is."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    needed,
    sizes_of,
)
from modelc.passes.network.sketch import Sketch


def axes_of(node: ir.Node) -> list[int] | None:
    """Return a reduction's axes counted from the front, or None if they are no constants."""
    rank = len(sizes_of(needed(node)))
    given = input_of(node, 1)
    array = constant_of(given)
    if given is not None and array is None:
        return None
    if array is None or array.size == 0:
        return [] if integer(node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted({int(axis) % rank for axis in array.reshape(-1)})


def _parts(node: ir.Node) -> tuple[ir.Value, list[int], bool] | None:
    axes = axes_of(node)
    return None if axes is None else (needed(node), axes, bool(integer(node, "keepdims", 1)))


def _sum(s: Sketch, x: ir.Value, axes: list[int], keepdims: bool) -> ir.Value:
    return s.reduce("ReduceSum", x, axes, keepdims) if axes else x


def l1(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    if (parts := _parts(node)) is None:
        return None
    x, axes, keepdims = parts
    return [_sum(s, s.op("Abs", [x]), axes, keepdims)]


def l2(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Only the one over no axes: HTP has the rest."""
    parts = _parts(node)
    return [s.op("Abs", [parts[0]])] if parts is not None and not parts[1] else None


def sum_square(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    if (parts := _parts(node)) is None:
        return None
    x, axes, keepdims = parts
    return [_sum(s, s.mul(x, x), axes, keepdims)]


def log_sum(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    if (parts := _parts(node)) is None:
        return None
    x, axes, keepdims = parts
    return [s.op("Log", [_sum(s, x, axes, keepdims)])]


def log_sum_exp(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """m + log(sum(exp(x - m))), m the largest: no exponential overflows."""
    if (parts := _parts(node)) is None:
        return None
    x, axes, keepdims = parts
    if not axes:
        return [x]
    largest = s.reduce("ReduceMax", x, axes)
    total = s.reduce("ReduceSum", s.op("Exp", [s.sub(x, largest)]), axes)
    result = s.add(s.op("Log", [total]), largest)
    return [result if keepdims else s.reshape(result, sizes_of(node.outputs[0]))]


def product(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Halves times halves, until one is left: log2(n) products."""
    if (parts := _parts(node)) is None:
        return None
    x, axes, _ = parts
    sizes = sizes_of(x)
    others = [axis for axis in range(len(sizes)) if axis not in axes]
    count = math.prod(sizes[axis] for axis in axes)
    rows = math.prod(sizes[axis] for axis in others)
    value = s.reshape(s.transpose(x, [*others, *axes]), [rows, count])
    while count > 1:
        half = count // 2
        halves = s.mul(s.slice(value, 1, 0, half), s.slice(value, 1, half, 2 * half))
        odd = [s.slice(value, 1, count - 1, count)] if count % 2 else []
        value, count = s.concat([halves, *odd], 1), half + len(odd)
    return [s.reshape(value, sizes_of(node.outputs[0]))]


def extreme(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Any and all of bools, as numbers; over no axes nothing."""
    if (parts := _parts(node)) is None:
        return None
    x, axes, keepdims = parts
    if not axes:
        return [x]
    if dtype_of(x) != ir.DataType.BOOL:
        return None
    numbers = s.cast(x, ir.DataType.FLOAT)
    largest = s.reduce(node.op_type, numbers, axes, keepdims)
    return [s.compare("Greater", largest, 0.5)]


def plain(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Over no axes nothing is reduced."""
    parts = _parts(node)
    return [parts[0]] if parts is not None and not parts[1] else None


def last_extreme_index(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """The last of equals is the first one from behind."""
    if not integer(node, "select_last_index", 0):
        return None
    x = needed(node)
    sizes = sizes_of(x)
    axis = integer(node, "axis", 0) % len(sizes)
    keepdims = integer(node, "keepdims", 1)
    turned = s.take(x, np.arange(sizes[axis])[::-1], axis)
    result = sizes_of(node.outputs[0])
    index = s.op(
        node.op_type, [turned], result, dtype=ir.DataType.INT64, axis=axis, keepdims=keepdims
    )
    return [s.sub(s.number(sizes[axis] - 1, index, "last"), index)]


MOST_SUMS = 2048
"""The longest axis along which sums are a product with a matrix of zeros and ones."""


def cumulative_sum(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Exclusive or from behind. Of floats: a product with a triangle of ones. Of integers, which
    are exact: differences of the plain sums."""
    x, axis_given = needed(node), constant_of(node.inputs[1])
    exclusive, reverse = integer(node, "exclusive", 0), integer(node, "reverse", 0)
    sizes = sizes_of(x)
    if axis_given is None or not (exclusive or reverse) or not sizes:
        return None
    axis = int(axis_given.reshape(())) % len(sizes)
    count = sizes[axis]
    if not dtype_of(x).is_floating_point():
        return [_sums_of_integers(s, x, axis, bool(exclusive), bool(reverse))]
    if count > MOST_SUMS:
        return None
    ones = np.triu(np.ones((count, count), dtype_of(x).numpy()), 1 if exclusive else 0)
    triangle = s.constant(ones.T if reverse else ones, "triangle")
    perm = [i for i in range(len(sizes)) if i != axis] + [axis]
    last = s.transpose(x, perm)
    total = (
        s.matmul(last, triangle)
        if len(sizes) > 1
        else s.reshape(s.matmul(s.reshape(last, [1, count]), triangle), [count])
    )
    return [s.transpose(total, np.argsort(perm).tolist())]


def _sums_of_integers(
    s: Sketch, x: ir.Value, axis: int, exclusive: bool, reverse: bool
) -> ir.Value:
    sizes = sizes_of(x)
    sums = s.op("CumSum", [x, s.constant(np.array(axis), "axis")], sizes)
    if not reverse:
        return s.sub(sums, x)
    behind = s.sub(s.slice(sums, axis, sizes[axis] - 1, sizes[axis]), sums)
    return behind if exclusive else s.add(behind, x)

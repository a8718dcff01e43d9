"""Normalisations in forms that HTP doesn't take."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    dtype_of,
    input_of,
    integer,
    integers,
    is_used,
    needed,
    real,
    sizes_of,
)
from modelc.passes.network.sketch import Sketch


def layer_norm(s: Sketch, node: ir.Node) -> list[ir.Value | None] | None:
    """HTP takes it over the last axis, without mean and deviation, and in the simulator a fourth
    axis is wrong if it isn't 1: other axes are folded, and those two are computed beside it."""
    x = needed(node)
    sizes = sizes_of(x)
    axis = integer(node, "axis", -1) % len(sizes)
    statistics = is_used(node, 1) or is_used(node, 2)
    right = 2 <= len(sizes) <= 3 or (len(sizes) == 4 and sizes[0] == 1)
    plain = axis == len(sizes) - 1 and right and _is_vector(node, sizes[-1])
    if plain and not statistics:
        return None if len(node.outputs) == 1 else [_layer_norm(s, node, x, sizes), None, None]
    flat = s.reshape(x, [math.prod(sizes[:axis]), math.prod(sizes[axis:])])
    result = s.reshape(_layer_norm(s, node, flat, sizes_of(flat)), sizes)
    if not statistics:
        return [result]
    kept = (*sizes[:axis], *[1] * (len(sizes) - axis))
    axes = [1]
    mean = s.reduce("ReduceMean", flat, axes)
    centred = s.sub(flat, mean)
    variance = s.reduce("ReduceMean", s.mul(centred, centred), axes)
    root = s.op("Sqrt", [s.add(variance, real(node, "epsilon", 1e-5))])
    inverse = s.op("Reciprocal", [root])
    return [result, s.reshape(mean, kept), s.reshape(inverse, kept)]


def _is_vector(node: ir.Node, width: int) -> bool:
    """Whether scale and bias are [width]; ONNX lets them be broadcast."""
    given = [value for value in node.inputs[1:] if value is not None]
    return all(sizes_of(value) == (width,) for value in given)


def _layer_norm(s: Sketch, node: ir.Node, x: ir.Value, sizes: tuple[int, ...]) -> ir.Value:
    """x [..., width] with the node's own scale and bias, as far as they are vectors."""
    width = sizes[-1]
    operands = [_as_vector(s, input_of(node, index), width) for index in (1, 2)]
    scale, bias = operands
    inputs = [x, scale, *([bias] if bias is not None else [])]
    return s.op("LayerNormalization", inputs, sizes, axis=-1, epsilon=real(node, "epsilon", 1e-5))


def _as_vector(s: Sketch, value: ir.Value | None, width: int) -> ir.Value | None:
    if value is None or sizes_of(value) == (width,):
        return value
    if math.prod(sizes_of(value)) != width:
        value = s.op("Expand", [value, s.integers([width], "width")], [width])
    return s.reshape(value, [width])


def rms_norm(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """HTP takes it over the last axis of at most 4: more axes are folded into one."""
    x, scale = needed(node), needed(node, 1)
    sizes = sizes_of(x)
    axis = integer(node, "axis", -1) % len(sizes)
    rows, width = math.prod(sizes[:axis]), math.prod(sizes[axis:])
    if axis == len(sizes) - 1 and 2 <= len(sizes) <= 4 and sizes_of(scale) == (width,):
        return None
    flat = s.reshape(x, [rows, width])
    vector = _as_vector(s, scale, width)
    epsilon = real(node, "epsilon", 1e-5)
    result = s.op("RMSNormalization", [flat, vector], [rows, width], axis=-1, epsilon=epsilon)
    return [s.reshape(result, sizes)]


def instance_norm(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """As layer normalisation of each channel: the simulator crashes on some of HTP's own."""
    x = needed(node)
    batch, channels, *rest = sizes_of(x)
    width = math.prod(rest)
    result = _normalised(s, s.reshape(x, [batch * channels, width]), real(node, "epsilon", 1e-5))
    result = s.reshape(result, sizes_of(x))
    column = [channels, *[1] * len(rest)]
    scaled = s.mul(result, s.reshape(needed(node, 1), column))
    return [s.add(scaled, s.reshape(needed(node, 2), column))]


def group_norm(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """As layer normalisation of each group, then the channels' own scale and shift."""
    x = needed(node)
    batch, channels, *rest = sizes_of(x)
    groups = integer(node, "num_groups", 1)
    rows = [batch * groups, channels // groups * math.prod(rest)]
    result = _normalised(s, s.reshape(x, rows), real(node, "epsilon", 1e-5))
    result = s.reshape(result, sizes_of(x))
    column = [channels, *[1] * len(rest)]
    scaled = s.mul(result, s.reshape(needed(node, 1), column))
    return [s.add(scaled, s.reshape(needed(node, 2), column))]


def _normalised(s: Sketch, flat: ir.Value, epsilon: float) -> ir.Value:
    """flat [rows, width], each row with mean 0 and variance 1."""
    width, dtype = sizes_of(flat)[1], dtype_of(flat).numpy()
    scale = s.constant(np.ones(width, dtype), "ones")
    bias = s.constant(np.zeros(width, dtype), "zeros")
    return s.op("LayerNormalization", [flat, scale, bias], sizes_of(flat), axis=-1, epsilon=epsilon)


def lp_norm(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """p = 1: HTP has p = 2 only. Rows of zeros stay zeros, as on ONNX Runtime."""
    if integer(node, "p", 2) != 1:
        return None
    x = needed(node)
    axis = integer(node, "axis", -1) % len(sizes_of(x))
    total = s.reduce("ReduceSum", s.op("Abs", [x]), [axis])
    return [s.div(x, s.op("Max", [total, s.number(1e-7, x)], sizes_of(total)))]


def mean_variance(s: Sketch, node: ir.Node) -> list[ir.Value]:
    """(x - mean) / (sqrt(variance) + 1e-9); in half precision 1e-9 is 0, so the root is kept from
    that by a number that is not."""
    x = needed(node)
    rank = len(sizes_of(x))
    axes = [axis % rank for axis in integers(node, "axes", (0, 2, 3))]
    centred = s.sub(x, s.reduce("ReduceMean", x, axes))
    variance = s.reduce("ReduceMean", s.mul(centred, centred), axes)
    root = s.op("Max", [s.op("Sqrt", [variance]), s.number(1e-7, x)], sizes_of(variance))
    return [s.div(centred, root)]


def batch_norm(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """What computed numbers normalise; constant ones were folded before."""
    used = any(is_used(node, index) for index in range(1, 5))
    if integer(node, "training_mode", 0) or used:
        return None
    x, scale, bias, mean, variance = (needed(node, index) for index in range(5))
    column = [-1, *[1] * (len(sizes_of(x)) - 2)]
    column[0] = sizes_of(scale)[0]
    root = s.op("Sqrt", [s.add(variance, real(node, "epsilon", 1e-5))])
    factor = s.div(scale, root)
    shift = s.sub(bias, s.mul(mean, factor))
    return [s.add(s.mul(x, s.reshape(factor, column)), s.reshape(shift, column))]

"""Poolings in forms that HTP refuses, or computes wrongly without a word.

Its average over pads that count is wrong, the simulator crashes on others, windows that reach over
the end (`ceil_mode`) are wrong, and dilated ones refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from modelc.passes.network.decompose.windows import Axis, axes_of
from modelc.passes.network.read import dtype_of, integer, is_used, needed, sizes_of
from modelc.passes.network.sketch import Sketch

MOST_TAPS = 64
"""The most elements of a window, along one axis, that are taken one by one."""

LOWEST = -65504.0  # of half precision; a pad that no maximum takes

OfImages = Callable[[Sketch, ir.Value, Sequence[Axis]], ir.Value]


def average(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Zeros are padded explicitly, the mean of all is taken, and windows that hold fewer elements
    that count are scaled up by a constant map."""
    axes = axes_of(node)
    if not any(axis.before or axis.after or axis.missing or axis.dilation > 1 for axis in axes):
        return None
    include = bool(integer(node, "count_include_pad", 0))
    mean = _mean(s, needed(node), axes)
    factor = np.ones([1, 1, *[1] * len(axes)])
    for index, axis in enumerate(axes):
        sizes = [1] * factor.ndim
        sizes[2 + index] = axis.out
        factor = factor * (axis.kernel / axis.counts(include)).reshape(sizes)
    if np.all(factor == 1):
        return [mean]
    dtype = dtype_of(needed(node)).numpy()
    return [s.mul(mean, s.constant(factor.astype(dtype), "counts"))]


def _mean(s: Sketch, x: ir.Value, axes: Sequence[Axis]) -> ir.Value:
    """Return the mean of each window, pads being zeros that count."""
    return _in_two_steps(s, x, axes, _mean_of_images)


def _in_two_steps(s: Sketch, x: ir.Value, axes: Sequence[Axis], of_images: OfImages) -> ir.Value:
    """Pool windows over three axes as two poolings of images; those over fewer as they are. HTP has
    neither a pooling nor a convolution of three axes with a group for each channel."""
    if len(axes) < 3:
        return of_images(s, x, axes)
    batch, channels, *_ = sizes_of(x)
    deep, *flat = axes
    value = s.reshape(x, [batch, channels * deep.size, *(axis.size for axis in flat)])
    value = of_images(s, value, flat)
    places = math.prod(axis.out for axis in flat)
    value = s.reshape(value, [batch, channels, deep.size, places])
    value = of_images(s, value, [deep, Axis(places, places, 1, 1, 1, 0, 0)])
    return s.reshape(value, [batch, channels, *(axis.out for axis in axes)])


def _mean_of_images(s: Sketch, x: ir.Value, axes: Sequence[Axis]) -> ir.Value:
    """A convolution of each channel with equal weights. A Pad before an AveragePool would be put
    into it again by ONNX Runtime. HTP takes strides or dilations: of both, strides come after."""
    batch, channels, *_ = sizes_of(x)
    if any(axis.stride > 1 for axis in axes) and any(axis.dilation > 1 for axis in axes):
        value = _mean_of_images(s, x, [axis.at_every_place() for axis in axes])
        for index, axis in enumerate(axes):
            if axis.stride > 1:
                last = (axis.out - 1) * axis.stride + 1
                value = s.slice(value, 2 + index, 0, last, axis.stride)
        return value
    kernel = [axis.kernel for axis in axes]
    weights = np.full([channels, 1, *kernel], 1 / math.prod(kernel), dtype_of(x).numpy())
    return s.op(
        "Conv",
        [x, s.constant(weights, "weights")],
        [batch, channels, *(axis.out for axis in axes)],
        group=channels,
        kernel_shape=kernel,
        strides=[axis.stride for axis in axes],
        dilations=[axis.dilation for axis in axes],
        pads=[*(axis.before for axis in axes), *(axis.missing for axis in axes)],
    )


def _padded(s: Sketch, x: ir.Value, axes: Sequence[Axis], number: float) -> ir.Value:
    before = [0, 0, *(axis.before for axis in axes)]
    after = [0, 0, *(axis.missing for axis in axes)]
    return s.pad(x, before, after, number)


def largest(s: Sketch, node: ir.Node) -> list[ir.Value | None] | None:
    """Dilated windows element by element, axis after axis; those over three axes as two poolings;
    bytes as floats; a number of windows that is rounded up with explicit pads."""
    if is_used(node, 1):
        return None
    x, axes = needed(node), axes_of(node)
    dtype = dtype_of(x)
    unknown = [None] * (len(node.outputs) - 1)
    if dtype in (ir.DataType.UINT8, ir.DataType.INT8):
        value = _largest(s, s.cast(x, ir.DataType.FLOAT), axes)
        return None if value is None else [s.cast(value, dtype), *unknown]
    rounded_up = integer(node, "ceil_mode", 0)
    dilated = any(axis.dilation > 1 for axis in axes)
    if len(axes) <= 2 and not rounded_up and not dilated and len(node.outputs) == 1:
        return None
    value = _largest(s, x, axes)
    return None if value is None else [value, *unknown]


def _largest(s: Sketch, x: ir.Value, axes: Sequence[Axis]) -> ir.Value | None:
    if any(axis.dilation > 1 and axis.kernel > MOST_TAPS for axis in axes):
        return None
    return _in_two_steps(s, x, axes, _largest_of_images)


def _largest_of_images(s: Sketch, x: ir.Value, axes: Sequence[Axis]) -> ir.Value:
    if all(axis.dilation == 1 for axis in axes):
        return _max_pool(s, x, axes)
    value = _padded(s, x, axes, LOWEST)
    for index, axis in enumerate(axes):
        reach = (axis.out - 1) * axis.stride + 1
        starts = [offset * axis.dilation for offset in range(axis.kernel)]
        taps = [s.slice(value, 2 + index, at, at + reach, axis.stride) for at in starts]
        value = s.op("Max", taps) if len(taps) > 1 else taps[0]
    return value


def _max_pool(s: Sketch, x: ir.Value, axes: Sequence[Axis]) -> ir.Value:
    return s.op(
        "MaxPool",
        [x],
        [*sizes_of(x)[:2], *(axis.out for axis in axes)],
        kernel_shape=[axis.kernel for axis in axes],
        strides=[axis.stride for axis in axes],
        pads=[*(axis.before for axis in axes), *(axis.missing for axis in axes)],
    )


def norm(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """LpPool: the p-th root of a sum, which is a mean times the number of elements."""
    axes, p = axes_of(node), integer(node, "p", 2)
    mean = _mean(s, _to_power(s, needed(node), p), axes)
    return [_root(s, s.mul(mean, float(math.prod(axis.kernel for axis in axes))), p)]


def global_norm(s: Sketch, node: ir.Node) -> list[ir.Value]:
    x, p = needed(node), integer(node, "p", 2)
    axes = list(range(2, len(sizes_of(x))))
    return [_root(s, s.reduce("ReduceSum", _to_power(s, x, p), axes), p)]


def _to_power(s: Sketch, x: ir.Value, p: int) -> ir.Value:
    if p == 2:
        return s.mul(x, x)
    size = s.op("Abs", [x])
    return size if p == 1 else s.binary("Pow", size, float(p))


def _root(s: Sketch, x: ir.Value, p: int) -> ir.Value:
    if p == 1:
        return x
    return s.op("Sqrt", [x]) if p == 2 else s.binary("Pow", x, 1 / p)

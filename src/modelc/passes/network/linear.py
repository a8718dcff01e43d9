"""Convolutions and Gemm with another scale and shift for each channel that they make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    needed,
    real,
    sizes_of,
    tensor_of,
)
from modelc.passes.network.sketch import Sketch

LARGE: Final = 1 << 20  # bytes from which a scaled weight is computed when it is read


@dataclass(frozen=True)
class Affine:
    """factor * x + shift, float64 [channels] each."""

    factor: np.ndarray
    shift: np.ndarray


def bias_of(linear: ir.Node) -> np.ndarray | None:
    """Return the constant bias [channels], zeros if there is none, None if it is no constant."""
    channels = _channels(linear)
    value = input_of(linear, 2)
    if value is None:
        return np.zeros(channels)
    bias = constant_of(value)
    if bias is None or bias.size not in (1, channels) or (bias.ndim > 1 and bias.shape[0] != 1):
        return None
    beta = real(linear, "beta", 1.0) if linear.op_type == "Gemm" else 1.0
    return np.broadcast_to(np.asarray(bias, np.float64).reshape(-1) * beta, (channels,))


def scaled_linear(sketch: Sketch, linear: ir.Node, affine: Affine) -> ir.Value:
    """Write `linear` with `affine` behind it as one node; its weight and bias are constants."""
    weight, bias = needed(linear, 1), bias_of(linear)
    assert bias is not None
    dtype = dtype_of(weight).numpy()
    axis, groups = _channel_axis(linear), integer(linear, "group", 1)
    split = groups if linear.op_type == "ConvTranspose" else 1
    tensor = tensor_of(weight)
    assert tensor is not None
    compute = partial(_scaled, tensor, affine.factor, axis, split)
    if tensor.nbytes > LARGE:
        lazy = ir.LazyTensor(compute, dtype=tensor.dtype, shape=ir.Shape(sizes_of(weight)))
        scaled = sketch.tensor(lazy, "weight")
    else:
        scaled = sketch.tensor(compute(), "weight")
    shift = bias * affine.factor + affine.shift
    attributes = {
        name: attribute.value for name, attribute in linear.attributes.items() if name != "beta"
    }
    return sketch.op(
        linear.op_type,
        [needed(linear), scaled, sketch.constant(shift.astype(dtype), "bias")],
        sizes_of(linear.outputs[0]),
        **attributes,
    )


def _scaled(
    tensor: ir.TensorProtocol, factor: np.ndarray, axis: int, split: int
) -> ir.TensorProtocol:
    """Multiply each channel of a weight. Of a grouped ConvTranspose's [in, out / groups, ...], a
    group's inputs lie together: row by row of `factor` as [groups, out / groups]."""
    weight = tensor.numpy()
    if split > 1:
        rows = np.repeat(factor.reshape(split, -1), weight.shape[0] // split, axis=0)
        rows = rows.reshape(*rows.shape, *[1] * (weight.ndim - 2))
    else:
        rows = factor.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    return ir.tensor((weight * rows).astype(weight.dtype))


def _channel_axis(linear: ir.Node) -> int:
    if linear.op_type == "Gemm":
        return 0 if integer(linear, "transB", 0) else 1
    return 1 if linear.op_type == "ConvTranspose" else 0


def _channels(linear: ir.Node) -> int:
    return sizes_of(linear.outputs[0])[1]

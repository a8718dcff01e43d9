"""Products: Gemm with factors, Einsum, transforms that are products with constant matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    integers,
    needed,
    real,
    sizes_of,
)
from modelc.passes.network.sketch import Sketch


def gemm(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """HTP has no alpha or beta but 1."""
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    shift = input_of(node, 2)
    if alpha == 1 and (beta == 1 or shift is None):
        return None
    turned: dict[str, Any] = {name: integer(node, name, 0) for name in ("transA", "transB")}
    a, b = needed(node), needed(node, 1)
    result = s.op("Gemm", [a, b], sizes_of(node.outputs[0]), **turned)
    if alpha != 1:
        result = s.mul(result, alpha)
    if shift is None or beta == 0:
        return [result]
    return [s.add(result, s.mul(shift, beta) if beta != 1 else shift)]


def conv_transpose(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Dilated kernels are written out with their zeros; HTP has none."""
    dilations, weight = integers(node, "dilations"), constant_of(node.inputs[1])
    if not any(dilation > 1 for dilation in dilations) or weight is None:
        return None
    spatial = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    wide = np.zeros((*weight.shape[:2], *spatial), weight.dtype)
    wide[(slice(None), slice(None), *(slice(None, None, d) for d in dilations))] = weight
    left_out = ("dilations", "kernel_shape")
    attributes = {k: a.value for k, a in node.attributes.items() if k not in left_out}
    inputs = [needed(node), s.constant(wide, "dilated"), *node.inputs[2:]]
    return [s.op("ConvTranspose", inputs, sizes_of(node.outputs[0]), **attributes)]


def column_to_image(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Col2Im is a transposed convolution whose kernel puts each number in its place."""
    block, image = constant_of(node.inputs[2]), constant_of(node.inputs[1])
    if block is None or image is None or len(block) > 2:
        return None
    x = needed(node)
    count = len(block)
    strides = integers(node, "strides", [1] * count)
    dilations = integers(node, "dilations", [1] * count)
    pads = integers(node, "pads", [0] * 2 * count)
    extents = [(int(k) - 1) * d + 1 for k, d in zip(block, dilations, strict=True)]
    places = [
        (int(image[i]) + pads[i] + pads[count + i] - extents[i]) // strides[i] + 1
        for i in range(count)
    ]
    batch, width, _ = sizes_of(x)
    taps = math.prod(int(k) for k in block)
    channels = width // taps
    kernel = np.zeros((channels, taps, 1, *extents), dtype_of(x).numpy())
    for tap, offsets in enumerate(np.ndindex(*(int(k) for k in block))):
        place = tuple(o * d for o, d in zip(offsets, dilations, strict=True))
        kernel[(slice(None), tap, 0, *place)] = 1
    weight = s.constant(kernel.reshape(width, 1, *extents), "kernel")
    columns = s.reshape(x, [batch, width, *places])
    return [
        s.op(
            "ConvTranspose",
            [columns, weight],
            sizes_of(node.outputs[0]),
            group=channels,
            strides=strides,
            pads=pads,
            output_padding=[
                int(image[i]) + pads[i] + pads[count + i] - extents[i]
                - (places[i] - 1) * strides[i]
                for i in range(count)
            ],
        )
    ]  # fmt: skip


MOST_FREQUENCIES = 4096
"""The longest transform that is a product with a matrix of this many rows and columns."""


def fourier(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """DFT of real or complex [..., n, ..., 1 or 2] with matrices of cosines and sines."""
    x = needed(node)
    sizes = list(sizes_of(x))
    given_axis = input_of(node, 2)
    axis_array = constant_of(given_axis)
    if given_axis is not None and axis_array is None:
        return None
    axis = int(axis_array.reshape(())) if axis_array is not None else -2
    axis %= len(sizes)
    length = sizes[axis] if input_of(node, 1) is None else None
    if length is None:
        array = constant_of(input_of(node, 1))
        if array is None:
            return None
        length = int(array.reshape(()))
    inverse, onesided = integer(node, "inverse", 0), integer(node, "onesided", 0)
    if length > MOST_FREQUENCIES or (inverse and onesided) or sizes[-1] not in (1, 2):
        return None
    if sizes[axis] > length:
        x = s.slice(x, axis, 0, length)
    rows = min(sizes[axis], length)
    columns = length // 2 + 1 if onesided else length
    angle = 2 * np.pi * np.outer(np.arange(rows), np.arange(columns)) / length
    scale, sign = (1 / length, 1.0) if inverse else (1.0, -1.0)
    dtype = dtype_of(x).numpy()
    cos = s.constant((scale * np.cos(angle)).astype(dtype), "cosines")
    sin = s.constant((scale * sign * np.sin(angle)).astype(dtype), "sines")
    # [..., part, rows]: the transformed axis last.
    perm = [i for i in range(len(sizes)) if i != axis] + [axis]
    last = s.transpose(x, perm)
    part_axis = len(sizes) - 2
    real_part = s.slice(last, part_axis, 0, 1)
    real_result, imaginary = s.matmul(real_part, cos), s.matmul(real_part, sin)
    if sizes[-1] == 2:
        other = s.slice(last, part_axis, 1, 2)
        real_result = s.sub(real_result, s.matmul(other, sin))
        imaginary = s.add(imaginary, s.matmul(other, cos))
    both = s.concat([real_result, imaginary], part_axis)
    return [s.transpose(both, np.argsort(perm).tolist())]


def affine_grid(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """theta [batch, d, d + 1] times the constant places of the grid, homogeneous."""
    size = constant_of(node.inputs[1])
    if size is None:
        return None
    corners = bool(integer(node, "align_corners", 0))
    spatial = [int(n) for n in size[2:]]
    axes = [np.linspace(-1, 1, n) if corners else (2 * np.arange(n) + 1) / n - 1 for n in spatial]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")[::-1], -1).reshape(-1, len(spatial))
    homogeneous = np.concatenate([grid, np.ones((len(grid), 1))], 1)
    theta = needed(node)
    places = s.constant(homogeneous.astype(dtype_of(theta).numpy())[None], "places")
    result = s.matmul(places, s.transpose(theta, [0, 2, 1]))
    return [s.reshape(result, sizes_of(node.outputs[0]))]

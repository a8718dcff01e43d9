"""What a linear node multiplies its weight by, as rows of a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view

MOST_ROWS: Final = 4096
"""Of one feed: of a convolution's patches only so many are taken, evenly spread."""


def patches_of(node: ir.Node, values: np.ndarray) -> np.ndarray:
    """Return a node's inputs as float32 [rows, inputs of an output channel], those of a Conv in
    groups group after group.

    Args:
        node: MatMul, Gemm, or a Conv; its weight's rows are in the same order.
        values: the tensor that it reads: [..., inputs], or [batch, channels, *sizes].
    """
    if node.op_type != "Conv":
        return _thinned(values.reshape(-1, values.shape[-1]))
    weight = node.inputs[1]
    assert weight is not None and weight.const_value is not None
    kernel = tuple(int(size) for size in weight.const_value.shape.numpy()[2:])
    strides = node.attributes.get_ints("strides", [1] * len(kernel))
    dilations = node.attributes.get_ints("dilations", [1] * len(kernel))
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    padded = np.pad(values, [(0, 0), (0, 0), *_pads(node, values.shape[2:], reach, strides)])
    axes = tuple(range(2, values.ndim))
    windows = sliding_window_view(padded, reach, axis=axes)  # [batch, channels, *sizes, *reach]
    taken = [slice(None), slice(None)]
    taken += [slice(None, None, step) for step in strides]
    taken += [slice(None, None, step) for step in dilations]
    windows = windows[tuple(taken)]
    rank = len(kernel)
    order = (0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    turned = windows.transpose(order)
    count = int(np.prod(turned.shape[: 1 + rank]))
    every = -(-count // MOST_ROWS)
    places = np.unravel_index(np.arange(0, count, every), turned.shape[: 1 + rank])
    rows: np.ndarray = turned[places].reshape(len(places[0]), -1)
    return rows


def _pads(
    node: ir.Node, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    how = node.attributes.get_string("auto_pad", "NOTSET")
    rank = len(reach)
    if how == "NOTSET":
        pads = node.attributes.get_ints("pads", [0] * 2 * rank)
        return [(int(pads[i]), int(pads[i + rank])) for i in range(rank)]
    if how == "VALID":
        return [(0, 0)] * rank
    result = []
    for size, extent, step in zip(sizes, reach, strides, strict=True):
        total = max((-(-size // step) - 1) * step + extent - size, 0)
        less, more = total // 2, total - total // 2
        result.append((less, more) if how == "SAME_UPPER" else (more, less))
    return result


def _thinned(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[:: -(-len(rows) // MOST_ROWS) or 1])

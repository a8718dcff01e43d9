"""Look-ups: indices that count from behind, which HTP reads as something else, one-hot vectors,
batched look-ups."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    integer,
    needed,
    number_of,
    sizes_of,
    tensor_of,
    text,
)
from modelc.passes.network.sketch import Sketch


def _from_front(s: Sketch, indices: ir.Value, size: int) -> ir.Value | None:
    """Return the indices counted from the front, or None if they are known to be."""
    numbers = constant_of(indices)
    if numbers is not None:
        if not (numbers < 0).any():
            return None
        return s.constant(np.where(numbers < 0, numbers + size, numbers), "indices")
    behind = s.compare("Less", indices, 0)
    return s.where(behind, s.add(indices, size), indices)


def gather(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Indices counted from the front; those of a table are so already, as word numbers."""
    x, indices = needed(node), needed(node, 1)
    if tensor_of(x) is not None or constant_of(indices) is not None or _is_counted(indices):
        return None
    axis = integer(node, "axis", 0) % len(sizes_of(x))
    front = _from_front(s, indices, sizes_of(x)[axis])
    assert front is not None, "dynamic indices may count from behind"
    return [s.op("Gather", [x, front], sizes_of(node.outputs[0]), axis=axis)]


def gather_elements(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    x, indices = needed(node), needed(node, 1)
    axis = integer(node, "axis", 0) % len(sizes_of(x))
    if _is_counted(indices):
        return None
    front = _from_front(s, indices, sizes_of(x)[axis])
    if front is None:
        return None
    return [s.op("GatherElements", [x, front], sizes_of(node.outputs[0]), axis=axis)]


MOST_PLACES = 1 << 20
"""The most elements whose places are written down."""


def scatter_elements(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Indices counted from the front; what is added or multiplied as ScatterND, which has that."""
    x, indices, updates = (needed(node, index) for index in range(3))
    axis = integer(node, "axis", 0) % len(sizes_of(x))
    if _is_counted(indices):
        return None
    front = _from_front(s, indices, sizes_of(x)[axis])
    reduction = text(node, "reduction", "none")
    if reduction in ("add", "mul"):
        places = _places(s, indices if front is None else front, axis)
        if places is None:
            return None
        flat = s.reshape(updates, [math.prod(sizes_of(updates))])
        return [s.op("ScatterND", [x, places, flat], sizes_of(x), reduction=reduction)]
    if front is None:
        return None
    result = s.op(
        "ScatterElements", [x, front, updates], sizes_of(x), axis=axis, reduction=reduction
    )
    return [result]


def _places(s: Sketch, indices: ir.Value, axis: int) -> ir.Value | None:
    """Return for each index the whole place [elements, axes] that it names on one axis."""
    sizes = sizes_of(indices)
    count = math.prod(sizes)
    if count > MOST_PLACES:
        return None
    own = np.indices(sizes).reshape(len(sizes), count).T.astype(dtype_of(indices).numpy())
    parts = [s.reshape(indices, [count, 1])]
    if axis:
        parts.insert(0, s.constant(own[:, :axis], "before"))
    if axis + 1 < len(sizes):
        parts.append(s.constant(own[:, axis + 1 :], "behind"))
    return s.concat(parts, 1)


def _is_counted(indices: ir.Value) -> bool:
    """Whether this file has counted the indices from the front already."""
    maker = indices.producer()
    if maker is None or maker.op_type != "Where":
        return False
    test = maker.inputs[0].producer() if maker.inputs[0] is not None else None
    return test is not None and test.op_type == "Less" and number_of(test.inputs[1]) == 0


def one_hot(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Where the index is the place, counted from the front or from behind."""
    indices, depth, values = needed(node), number_of(node.inputs[1]), constant_of(node.inputs[2])
    if depth is None or values is None:
        return None
    rank = len(sizes_of(indices)) + 1
    axis = integer(node, "axis", -1) % rank
    if dtype_of(indices) not in (ir.DataType.INT64, ir.DataType.INT32):
        indices = s.cast(indices, ir.DataType.INT64)
    sizes = list(sizes_of(indices))
    column = s.reshape(indices, [*sizes[:axis], 1, *sizes[axis:]])
    count = int(depth)
    behind = s.compare("Less", column, 0)
    column = s.where(behind, s.add(column, count), column)
    places = np.arange(count, dtype=dtype_of(column).numpy())
    row = s.constant(places.reshape([count if i == axis else 1 for i in range(rank)]), "places")
    hit = s.op("Equal", [column, row], dtype=ir.DataType.BOOL)
    off, on = s.constant(values[0].reshape(()), "off"), s.constant(values[1].reshape(()), "on")
    return [s.op("Where", [hit, on, off], dtype=dtype_of(node.outputs[0]))]


def gather_nd(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Constant indices become a look-up along one axis, or a Reshape where they name everything in
    order, as exporters write x[:, None]. Otherwise batch axes become indices of their own."""
    x, indices = needed(node), needed(node, 1)
    count = integer(node, "batch_dims", 0)
    numbers = constant_of(indices)
    if numbers is not None:
        return [_look_up(s, node, _with_batch(numbers, count))]
    if not count:
        return None
    sizes = sizes_of(indices)
    places = _batch_places(sizes, count, dtype_of(indices).numpy())
    full = s.concat([s.constant(places, "batch"), indices], len(sizes) - 1)
    return [s.op("GatherND", [x, full], sizes_of(node.outputs[0]))]


def _batch_places(sizes: tuple[int, ...], count: int, dtype: np.dtype) -> np.ndarray:
    """Return the place along each of the first `count` axes, [*sizes[:-1], count]."""
    grids = np.meshgrid(*(np.arange(n, dtype=dtype) for n in sizes[:count]), indexing="ij")
    places = np.stack(grids, -1)
    places = places.reshape(*sizes[:count], *[1] * (len(sizes) - 1 - count), count)
    return np.broadcast_to(places, (*sizes[:-1], count))


def _with_batch(numbers: np.ndarray, count: int) -> np.ndarray:
    if not count:
        return numbers
    places = _batch_places(numbers.shape, count, numbers.dtype)
    return np.concatenate([places, numbers], -1)


def _look_up(s: Sketch, node: ir.Node, indices: np.ndarray) -> ir.Value:
    """Look up x at indices [..., k] into its first k axes."""
    x = needed(node)
    sizes, depth = sizes_of(x), indices.shape[-1]
    outer, inner = sizes[:depth], sizes[depth:]
    flat = np.zeros(indices.shape[:-1], np.int64)
    for axis, size in enumerate(outer):
        flat = flat * size + np.where(indices[..., axis] < 0, size, 0) + indices[..., axis]
    count = math.prod(outer)
    result = sizes_of(node.outputs[0])
    if np.array_equal(flat.reshape(-1), np.arange(count)):
        return s.reshape(x, result)
    rows = s.reshape(x, [count, *inner])
    return s.reshape(s.take(rows, flat.reshape(-1), 0), result)

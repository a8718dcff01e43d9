"""Resize as what it is: a linear map of each axis, which is constant once the sizes are.

HTP refuses some kinds and computes others wrongly: of nearest neighbours all but three, of linear
and cubic ones those whose scale is not the ratio of the sizes. What it does right stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

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
    text,
)
from modelc.passes.network.sketch import Sketch


def resize(s: Sketch, node: ir.Node) -> list[ir.Value] | None:
    """Nearest neighbours that HTP finds as well stay, others are looked up with constant indices;
    linear and cubic ones that it doesn't take are products with a constant matrix on either side.
    """
    x, mode = needed(node), text(node, "mode", "nearest")
    scales = _scales(node)
    if scales is None:
        return None
    sizes, outs = sizes_of(x), sizes_of(node.outputs[0])
    places = [_places(node, *axis) for axis in zip(scales, sizes, outs, strict=True)]
    known = [place for place in places if place is not None]
    if len(known) < len(places):
        return None
    if mode == "nearest":
        found = [_round(node, p).clip(0, n - 1) for p, n in zip(known, sizes, strict=True)]
        kind = _kind_on_htp(node, known, found, scales)
        return _look_up(s, x, found) if kind is None else _as_kind(s, node, kind)
    if not dtype_of(x).is_floating_point() or _is_taken(node, scales):
        return None
    for axis, (size, out) in enumerate(zip(sizes, outs, strict=True)):
        weights = _weights(node, known[axis], size, scales[axis])
        if out != size or not np.array_equal(weights, np.eye(size)):
            x = _apply(s, x, weights.astype(dtype_of(x).numpy()), axis)
    return [x]


def _look_up(s: Sketch, x: ir.Value, found: Sequence[np.ndarray]) -> list[ir.Value]:
    for axis, (indices, size) in enumerate(zip(found, sizes_of(x), strict=True)):
        if not np.array_equal(indices, np.arange(size)):
            x = s.take(x, indices.astype(np.int64), axis)
    return [x]


_Kind = tuple[str, str]
_KINDS: Final[Mapping[_Kind, Callable[[np.ndarray], np.ndarray]]] = {
    ("asymmetric", "floor"): np.floor,
    ("half_pixel", "round_prefer_ceil"): lambda places: np.floor(places + 0.5),
    ("align_corners", "round_prefer_ceil"): lambda places: np.floor(places + 0.5),
}
"""The nearest neighbours that HTP finds right: coordinates and rounding."""


def _kind_on_htp(
    node: ir.Node, places: Sequence[np.ndarray], found: Sequence[np.ndarray], scales: list[float]
) -> _Kind | None:
    """Return the kind under which HTP finds these very neighbours, if there is one."""
    coordinates = text(node, "coordinate_transformation_mode", "half_pixel")
    if coordinates == "pytorch_half_pixel" and min(sizes_of(node.outputs[0])[2:]) > 1:
        coordinates = "half_pixel"
    for kind, rounded in _KINDS.items():
        if kind[0] == coordinates and _is_plain(node, scales):
            sizes = sizes_of(needed(node))
            theirs = [rounded(p).clip(0, n - 1) for p, n in zip(places, sizes, strict=True)]
            if all(np.array_equal(a, b) for a, b in zip(theirs, found, strict=True)):
                return kind
    return None


def _as_kind(s: Sketch, node: ir.Node, kind: _Kind) -> list[ir.Value] | None:
    names = ("coordinate_transformation_mode", "nearest_mode")
    said = text(node, names[0], "half_pixel"), text(node, names[1], "round_prefer_floor")
    if said == kind:
        return None
    attributes = {name: a.value for name, a in node.attributes.items() if name not in names}
    attributes |= dict(zip(names, kind, strict=True))
    return [s.op("Resize", node.inputs, sizes_of(node.outputs[0]), **attributes)]


def _is_taken(node: ir.Node, scales: list[float]) -> bool:
    """Whether HTP takes this linear or cubic one, and computes it right."""
    known: tuple[str, ...] = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    coordinates = text(node, "coordinate_transformation_mode", "half_pixel")
    special = integer(node, "exclude_outside", 0) or integer(node, "antialias", 0)
    usual = not special and (
        text(node, "mode", "nearest") == "linear" or real(node, "cubic_coeff_a", -0.75) == -0.75
    )
    if coordinates == "align_corners" and text(node, "mode", "nearest") == "cubic":
        known = ()  # nothing but zeros in 16 bits
    if coordinates == "pytorch_half_pixel" and min(sizes_of(node.outputs[0])[2:], default=1) == 1:
        known = ()  # there it differs from half_pixel, which HTP doesn't know
    return usual and coordinates in known and _is_plain(node, scales)


def _is_plain(node: ir.Node, scales: list[float]) -> bool:
    """Whether it is an image whose height and width alone change, by the ratio of their sizes:
    HTP takes no other scale into account."""
    sizes, outs = sizes_of(needed(node)), sizes_of(node.outputs[0])
    exact = all(
        abs(scale * size - out) < 1e-4 for scale, size, out in zip(scales, sizes, outs, strict=True)
    )
    return len(sizes) == 4 and sizes[:2] == outs[:2] and exact


def _apply(s: Sketch, x: ir.Value, weights: np.ndarray, axis: int) -> ir.Value:
    """Multiply one axis of x with weights [out, in]."""
    rank = len(sizes_of(x))
    if axis == rank - 1:
        return s.matmul(x, s.constant(weights.T, "weights"))
    if axis == rank - 2:
        return s.matmul(s.constant(weights, "weights"), x)
    perm = [i for i in range(rank) if i != axis] + [axis]
    last = s.matmul(s.transpose(x, perm), s.constant(weights.T, "weights"))
    return s.transpose(last, np.argsort(perm).tolist())


def _scales(node: ir.Node) -> list[float] | None:
    """Return the scale of every axis as ONNX Runtime computes it, or None if it is not constant."""
    sizes, outs = sizes_of(needed(node)), sizes_of(node.outputs[0])
    axes = integers(node, "axes", range(len(sizes)))
    result = [1.0] * len(sizes)
    given = constant_of(input_of(node, 2))
    wanted = constant_of(input_of(node, 3))
    if given is not None and given.size:
        for axis, scale in zip(axes, given, strict=True):
            result[axis] = float(scale)
        return result
    if wanted is None:
        return None
    policy = text(node, "keep_aspect_ratio_policy", "stretch")
    ratios = [int(n) / sizes[axis] for axis, n in zip(axes, wanted, strict=True)]
    if policy != "stretch":
        ratios = [min(ratios) if policy == "not_larger" else max(ratios)] * len(ratios)
    for axis, ratio in zip(axes, ratios, strict=True):
        result[axis] = ratio if policy != "stretch" else outs[axis] / sizes[axis]
    return result


def _places(node: ir.Node, scale: float, size: int, out: int) -> np.ndarray | None:
    """Return where in the input each place of the output lies, float64 [out]."""
    mode = text(node, "coordinate_transformation_mode", "half_pixel")
    x = np.arange(out, dtype=np.float64)
    exact = size * scale  # not rounded to a whole number
    if mode == "half_pixel":
        return (x + 0.5) / scale - 0.5
    if mode == "asymmetric":
        return x / scale
    if mode == "pytorch_half_pixel":
        return (x + 0.5) / scale - 0.5 if out > 1 else np.zeros(out)
    if mode == "align_corners":
        return x * (size - 1) / (out - 1) if out > 1 else np.zeros(out)
    if mode == "half_pixel_symmetric":
        adjustment = out / exact
        return size / 2 * (1 - adjustment) + (x + 0.5) / scale - 0.5
    return None  # a crop's box may be anything


def _round(node: ir.Node, places: np.ndarray) -> np.ndarray:
    mode = text(node, "nearest_mode", "round_prefer_floor")
    if mode == "floor":
        return np.asarray(np.floor(places))
    if mode == "ceil":
        return np.asarray(np.ceil(places))
    up = mode != "round_prefer_floor"
    return np.asarray(np.floor(places + 0.5) if up else np.ceil(places - 0.5))


def _weights(node: ir.Node, places: np.ndarray, size: int, scale: float) -> np.ndarray:
    """Return float64 [out, in]: how much of each input is in each output. What is smoothed before
    it shrinks has a kernel as much wider as the image gets smaller."""
    cubic = text(node, "mode", "nearest") == "cubic"
    exclude = bool(integer(node, "exclude_outside", 0))
    width = max(1.0, 1 / scale) if integer(node, "antialias", 0) else 1.0
    reach = (2 if cubic else 1) * width
    weights = np.zeros((len(places), size))
    for row, place in enumerate(places):
        near = np.arange(math.floor(place - reach), math.ceil(place + reach) + 1)
        distance = np.abs(near - place) / width
        share = _cubic(distance, real(node, "cubic_coeff_a", -0.75)) if cubic else (
            np.maximum(0, 1 - distance)
        )  # fmt: skip
        if exclude:
            share = np.where((near >= 0) & (near < size), share, 0)
        if exclude or width > 1:
            share = share / share.sum()
        np.add.at(weights[row], near.clip(0, size - 1), share)
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys, Cubic convolution interpolation for digital image processing, 1981."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))

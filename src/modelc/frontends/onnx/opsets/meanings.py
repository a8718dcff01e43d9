"""Operators that meant something else before, by the same attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.frontends.onnx.draft import Rewrite, rank_of, sizes_of
from modelc.frontends.onnx.opsets.attributes import kept

Outputs = Sequence[ir.Value]


def softmax(node: ir.Node, rewrite: Rewrite) -> Outputs:
    """Softmax, LogSoftmax and Hardmax before opset 13: over all axes from `axis` on as one."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    (data,) = node.inputs
    rank, sizes = rank_of(data), sizes_of(data)
    if rank is not None:
        axis = axis + rank if axis < 0 else axis
        if axis == rank - 1:
            return rewrite.again([data], axis=-1)
    if sizes is not None and rank is not None:
        wide = [index for index in range(axis, rank) if sizes[index] != 1]
        if len(wide) <= 1:  # the others make no difference
            return rewrite.again([data], axis=wide[0] if wide else rank - 1)
    flat = rewrite.emit("Flatten", [data], axis=axis)
    shares = rewrite.emit(node.op_type, [flat], axis=-1)
    return [rewrite.emit("Reshape", [shares, rewrite.emit("Shape", [data])])]


def upsample(node: ir.Node, rewrite: Rewrite) -> Outputs:
    """Upsample, and Resize of opset 10: coordinates are scaled from the corner.

    "nearest" took the pixel before an exact place when it enlarged, the one behind it when it
    shrank, as ONNX Runtime has it.
    """
    data = node.inputs[0]
    scales = _scales(node, rewrite)
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
    if mode != "nearest":
        return [_resize(rewrite, data, scales, mode="linear")]
    steps = (
        (np.minimum(scales, 1), "ceil"),
        (np.maximum(scales, 1), "floor"),
    )
    for part, rounding in steps:
        if (part != 1).any():
            data = _resize(rewrite, data, part, mode="nearest", nearest_mode=rounding)
    return [data if rewrite.nodes else rewrite.emit("Identity", [data])]  # type: ignore[list-item]


def resize(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    """Resize of opsets 11 to 18: inputs that are not meant were empty tensors there, and a mode of
    TensorFlow's is gone."""
    inputs = list(node.inputs)
    for index in range(1, len(inputs)):
        known = rewrite.draft.known(inputs[index])
        if known is not None and known.size == 0:
            inputs[index] = None
    attributes = kept(node)
    if attributes.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        if attributes.get("nearest_mode") != "floor" or attributes.get("mode", "nearest") != (
            "nearest"
        ):
            raise rewrite.refuse(
                "has coordinates tf_half_pixel_for_nn, which opset 13 gave up",
                "export the model with opset 13 or newer",
            )
        # Half a pixel further, rounded down, is the same as the nearest one, halves up.
        attributes |= {
            "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        }
    if attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        inputs[1:2] = [None]
    while inputs and inputs[-1] is None:
        inputs.pop()
    return rewrite.again(inputs, **attributes)


def grid_sample(node: ir.Node, rewrite: Rewrite) -> Outputs | None:
    rest = kept(node)
    mode = _GRID_MODES.get(str(rest.get("mode", "bilinear")))
    return rewrite.again(node.inputs, **{**rest, "mode": mode}) if mode else None


def scatter(node: ir.Node, rewrite: Rewrite) -> Outputs:
    return [rewrite.emit("ScatterElements", node.inputs, **kept(node))]


def batched_scan(node: ir.Node, rewrite: Rewrite) -> Outputs:
    raise rewrite.refuse("of opset 8 had a batch axis of its own", "export with opset 9 or newer")


def _scales(node: ir.Node, rewrite: Rewrite) -> np.ndarray:
    if "scales" in node.attributes:
        return np.array(node.attributes["scales"].as_floats(), np.float32)
    scales = rewrite.draft.known(node.inputs[1]) if len(node.inputs) > 1 else None
    if scales is None or scales.size != rank_of(node.inputs[0]) or not (scales > 0).all():
        raise rewrite.refuse(
            "has scales that are computed from data", "export the model with scales that are fixed"
        )
    return scales.astype(np.float32)


def _resize(
    rewrite: Rewrite, data: ir.Value | None, scales: np.ndarray, **attributes: str
) -> ir.Value:
    return rewrite.emit(
        "Resize",
        [data, None, rewrite.array(scales.astype(np.float32), "scales")],
        coordinate_transformation_mode="asymmetric",
        **attributes,
    )


_GRID_MODES: Final[Mapping[str, str]] = {"bilinear": "linear", "bicubic": "cubic"}

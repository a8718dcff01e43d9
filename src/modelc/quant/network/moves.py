"""Operators that only move values about: what they read and make has one encoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from modelc.ir.network_encodings import is_float

_MOVED: Final[Mapping[str, tuple[int, ...] | None]] = {
    "Concat": None,
    "DepthToSpace": (0,),
    "Expand": (0,),
    "Flatten": (0,),
    "Gather": (0,),
    "GatherElements": (0,),
    "GatherND": (0,),
    "Identity": (0,),
    "MaxPool": (0,),
    "Pad": (0, 2),
    "ReduceMax": (0,),
    "ReduceMin": (0,),
    "Reshape": (0,),
    "Resize": (0,),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Slice": (0,),
    "SpaceToDepth": (0,),
    "Split": (0,),
    "Squeeze": (0,),
    "Tile": (0,),
    "TopK": (0,),
    "Transpose": (0,),
    "Unsqueeze": (0,),
    "Where": (1, 2),
}
"""Which of their inputs are moved (None: all). Resize mixes neighbours, which stays in their range,
and HTP wants one encoding on both sides of it."""


def moved_by(node: ir.Node) -> list[ir.Value]:
    """Return the float inputs whose values a node only moves (none if it computes)."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _MOVED:
        return []
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") == "cubic":
        return []  # overshoots
    places = _MOVED[node.op_type]
    inputs = (
        node.inputs if places is None else [node.inputs[i] for i in places if i < len(node.inputs)]
    )
    return [value for value in inputs if value is not None and is_float(value)]

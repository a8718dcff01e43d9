"""Which operators changed their meaning or form up to opset 23, and what brings them there.

Everything that isn't named here is the same operator in every opset from 7 on: it only learned more
types, or attributes whose defaults say what it did before. Tests hold this table against the onnx
package's history of definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from modelc.frontends.onnx.draft import Rewrite
from modelc.frontends.onnx.opsets import attributes, lenient, meanings, newer, unrun

Adapter = Callable[[ir.Node, Rewrite], Sequence[ir.Value] | None]


@dataclass(frozen=True)
class Change:
    """A change of an operator.

    Attributes:
        since: the opset that brought it.
        adapt: writes nodes of opset 23 for a node of an older one; None if it means the same.
    """

    since: int
    adapt: Adapter


CHANGES: Final[Mapping[str, Change]] = {
    "BatchNormalization": Change(14, attributes.batch_normalization),
    "Clip": Change(11, attributes.clip),
    "DFT": Change(20, attributes.dft),
    "Dropout": Change(12, attributes.dropout),
    "GridSample": Change(20, meanings.grid_sample),
    "GroupNormalization": Change(21, attributes.group_normalization),
    "Hardmax": Change(13, meanings.softmax),
    "LogSoftmax": Change(13, meanings.softmax),
    "Pad": Change(11, attributes.pad),
    "ReduceL1": Change(18, attributes.axes_as_input),
    "ReduceL2": Change(18, attributes.axes_as_input),
    "ReduceLogSum": Change(18, attributes.axes_as_input),
    "ReduceLogSumExp": Change(18, attributes.axes_as_input),
    "ReduceMax": Change(18, attributes.axes_as_input),
    "ReduceMean": Change(18, attributes.axes_as_input),
    "ReduceMin": Change(18, attributes.axes_as_input),
    "ReduceProd": Change(18, attributes.axes_as_input),
    "ReduceSum": Change(13, attributes.axes_as_input),
    "ReduceSumSquare": Change(18, attributes.axes_as_input),
    "Scan": Change(9, meanings.batched_scan),
    "Scatter": Change(11, meanings.scatter),
    "Slice": Change(10, attributes.slice_),
    "Softmax": Change(13, meanings.softmax),
    "Split": Change(18, attributes.split),
    "Squeeze": Change(13, attributes.axes_as_input),
    "TopK": Change(10, attributes.top_k),
    "Unsqueeze": Change(13, attributes.axes_as_input),
    "Upsample": Change(10, meanings.upsample),
}

NOT_RUN: Final[Mapping[str, Adapter]] = {
    "GlobalLpPool": attributes.global_lp_pool,
    "MaxRoiPool": unrun.no_kernel,
    "RoiAlign": unrun.no_kernel,
    **dict.fromkeys(unrun.RANDOM, unrun.random),
}
"""Operators that ONNX Runtime, the reference for everything, doesn't run in opset 23."""

LENIENT: Final[Mapping[str, Adapter]] = {"Range": lenient.range_}
"""Operators of which ONNX Runtime takes more than the definition has, in any opset."""

RESIZES: Final = (Change(11, meanings.upsample), Change(19, meanings.resize))

NEWER: Final[Mapping[str, Adapter]] = {"Mod": newer.mod, "Swish": newer.swish}
"""Operators that came or changed after opset 23. Of the others, nodes are taken whose inputs and
attributes opset 23 knows."""


def adapter_of(op_type: str, opset: int) -> Adapter | None:
    """Return what brings a node of an opset to 23, None if it only changes its number."""
    if op_type in NOT_RUN:
        return NOT_RUN[op_type]
    if op_type == "Resize":
        return next((change.adapt for change in RESIZES if opset < change.since), None)
    if op_type in NEWER:
        return NEWER[op_type]
    if op_type in LENIENT:
        return LENIENT[op_type]
    change = CHANGES.get(op_type)
    return change.adapt if change is not None and opset < change.since else None

"""Forms of operators that HTP doesn't take, written out: the same numbers on ONNX Runtime, the
sizes that ONNX infers, and nothing left that is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.network_graphs import assert_same, lower, network, node, normal, operators, run

from modelc.passes.network.taken import refusals


@dataclass(frozen=True)
class Form:
    """One node of the input x and these constants.

    Attributes:
        inputs: as `support.network_graphs.node` takes them.
        outputs: likewise; what begins with "_" is no output of the model.
        gone: operators that must not be left.
    """

    op_type: str
    inputs: str
    x: np.ndarray
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    outputs: str = "y"
    gone: tuple[str, ...] = ()


_PLACES = np.array([[0, -1, 0], [2, 2, 1]])
_LSTM = {
    "w": normal(1, 16, 3, seed=1),
    "r": normal(1, 16, 4, seed=2),
    "b": normal(1, 32, seed=3),
    "lengths": np.array([5, 5], np.int32),
}
_WINDOW = {"kernel_shape": [3, 2, 3], "strides": [2, 1, 2], "dilations": [2, 1, 2]}
_PADDED = {"kernel_shape": [3, 3, 3], "pads": [1, 1, 1, 1, 1, 1], "strides": [2, 2, 2]}

FORMS: Mapping[str, Form] = {
    "average of three axes, dilated": Form(
        "AveragePool", "x", normal(1, 2, 9, 8, 9), attributes=_WINDOW, gone=("AveragePool",)
    ),
    "average of three axes, rounded up": Form(
        "AveragePool", "x", normal(1, 2, 6, 7, 8),
        attributes={**_PADDED, "ceil_mode": 1}, gone=("AveragePool",),
    ),
    "average of two axes, dilated and strided": Form(
        "AveragePool", "x", normal(1, 3, 11, 12),
        attributes={"kernel_shape": [3, 2], "strides": [3, 2], "dilations": [2, 3],
                    "pads": [1, 0, 2, 1], "count_include_pad": 1},
    ),
    "largest of three axes, dilated": Form(
        "MaxPool", "x", normal(1, 2, 9, 8, 9), attributes=_WINDOW, gone=("MaxPool",)
    ),
    "largest of many, dilated": Form(
        "MaxPool", "x", normal(1, 2, 40, 40),
        attributes={"kernel_shape": [9, 9], "dilations": [2, 2], "pads": [3, 4, 5, 2]},
        gone=("MaxPool",),
    ),
    "largest, rounded up to what is there": Form(
        "MaxPool", "x", normal(1, 1, 2, 2),
        attributes={"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1},
    ),
    "sums of integers, exclusive": Form(
        "CumSum", "x axis", np.arange(12).reshape(3, 4).astype(np.int32),
        {"axis": np.array(1)}, {"exclusive": 1},
    ),
    "sums of integers from behind": Form(
        "CumSum", "x axis", np.arange(12).reshape(3, 4).astype(np.int32),
        {"axis": np.array(-2)}, {"reverse": 1},
    ),
    "sums of integers from behind, exclusive": Form(
        "CumSum", "x axis", np.arange(12).reshape(3, 4), {"axis": np.array(0)},
        {"reverse": 1, "exclusive": 1},
    ),
    "fmod of integers": Form(
        "Mod", "x by", np.array([-7, -6, 0, 6, 7], np.int32),
        {"by": np.array([3, -3, -2, 4, -4], np.int32)}, {"fmod": 1},
    ),
    "scattered and added": Form(
        "ScatterElements", "x places updates", normal(3, 4),
        {"places": _PLACES, "updates": normal(2, 3, seed=1)}, {"reduction": "add"},
        gone=("ScatterElements",),
    ),
    "scattered and multiplied along another axis": Form(
        "ScatterElements", "x places updates", normal(2, 4, 3),
        {"places": _PLACES.reshape(1, 2, 3), "updates": normal(1, 2, 3, seed=1)},
        {"reduction": "mul", "axis": 1}, gone=("ScatterElements",),
    ),
    "LSTM with the whole lengths": Form(
        "LSTM", "x w r b lengths", normal(5, 2, 3), _LSTM, {"hidden_size": 4}, "y h c"
    ),
    "LSTM with the whole lengths, of which the last state is read": Form(
        "LSTM", "x w r b lengths", normal(5, 2, 3), _LSTM, {"hidden_size": 4}, "_ h"
    ),
    "a sum over no axes that are named": Form(
        "ReduceSum", "x axes", normal(2, 3), {"axes": np.array([], np.int64)}, {"keepdims": 0}
    ),
    "a sum over no axes": Form(
        "ReduceSum", "x axes", normal(2, 3), {"axes": np.array([], np.int64)},
        {"noop_with_empty_axes": 1},
    ),
    "linear, smoothed before it shrinks": Form(
        "Resize", "x _ scales", normal(1, 2, 9, 10),
        {"scales": np.array([1, 1, 0.6, 0.45], np.float32)},
        {"mode": "linear", "antialias": 1}, gone=("Resize",),
    ),
    "cubic, smoothed before it shrinks": Form(
        "Resize", "x _ _ sizes", normal(1, 2, 9, 10), {"sizes": np.array([1, 2, 4, 13])},
        {"mode": "cubic", "antialias": 1}, gone=("Resize",),
    ),
    "joined with nothing": Form(
        "Concat", "x nothing x", normal(2, 3), {"nothing": np.zeros((2, 0), np.float32)},
        {"axis": 1},
    ),
    "split off nothing": Form(
        "Split", "x sizes", normal(2, 3), {"sizes": np.array([3, 0])}, {"axis": 1}, "y _rest"
    ),
    "an empty region of interest": Form(
        "Resize", "x region scales", normal(1, 1, 2, 2),
        {"region": np.array([], np.float32), "scales": np.array([1, 1, 2, 2], np.float32)},
        {"mode": "nearest"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_numbers_and_sizes_stay(name: str) -> None:
    form = FORMS[name]
    model = network(
        [node(form.op_type, form.inputs, form.outputs, **form.attributes)],
        {"x": form.x},
        " ".join(part for part in form.outputs.split() if not part.startswith("_")),
        form.constants,
    )
    lowered = lower(model, "network", "htp-network-fallback")
    assert not refusals(lowered)
    assert not set(form.gone) & set(operators(lowered))
    # Strict: sizes that were written down wrongly are an error.
    onnx.shape_inference.infer_shapes(ir.serde.serialize_model(lowered), strict_mode=True)
    assert_same(run(model, {"x": form.x}), run(lowered, {"x": form.x}))

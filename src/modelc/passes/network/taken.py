"""What HTP's provider takes of a network, operator by operator, as far as it can be told from the
graph: measured with the provider and its simulator.

The provider's own word, which depends on the chipset as well, comes when a graph is compiled. Here
is what it would take and compute wrongly, and what can be refused before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from modelc.ir.legality import is_legal
from modelc.ir.provenance import module_of
from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    input_of,
    integer,
    is_static,
    needed,
    sizes_of,
    text,
)

MOST_AXES: Final = 5


@dataclass(frozen=True)
class Refusal:
    """A node that HTP doesn't take.

    Attributes:
        operator: with its domain, if it isn't ONNX's own.
        module: its module path.
    """

    name: str
    operator: str
    module: str
    reason: str


def refusals(model: ir.Model) -> tuple[Refusal, ...]:
    """Return the nodes of a lowered graph that HTP doesn't take, in the graph's order."""
    found = []
    for node in model.graph:
        reason = reason_against(node)
        if reason:
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            found.append(Refusal(str(node.name), operator, module_of(node), reason))
    return tuple(found)


def reason_against(node: ir.Node) -> str:
    """Return why HTP doesn't take a node, "" if it does as far as is known. Operators of other
    domains are their users' own."""
    if any(a.type in _GRAPHS for a in node.attributes.values()):
        return f"HTP has no control flow: {_CONTROL.get(node.op_type, 'it has graphs inside')}"
    if not is_legal(node, "htp-network"):
        return _NAMED.get(node.op_type, "HTP has no such operator")
    if node.domain:
        return ""
    values = [*(v for v in node.inputs if v is not None), *(v for v in node.outputs if v.name)]
    for value in values:
        if not is_static(value):
            return f"the sizes of {value.name} depend on the inputs' numbers"
        if 0 in sizes_of(value):
            return f"{value.name} is empty"
        if len(sizes_of(value)) > MOST_AXES:
            return f"{value.name} has {len(sizes_of(value))} axes, HTP takes {MOST_AXES}"
        if dtype_of(value) not in _TYPES:
            return f"{value.name} is {dtype_of(value).name.lower()}, which HTP doesn't compute"
    if node.op_type not in _MOVES and any(dtype_of(value) in _BYTES for value in values):
        return "HTP takes bytes as codes of quantised numbers, not as integers"
    check = _FORMS.get(node.op_type)
    return check(node) if check else ""


_GRAPHS: Final = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)

_CONTROL: Final = {
    "If": "which branch is taken depends on the inputs",
    "Loop": "how often it runs depends on the inputs, or is too often to be unrolled",
    "Scan": "it has too many steps to be unrolled",
}

_BYTES: Final = (
    ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT4,
    ir.DataType.UINT4,
)  # fmt: skip
_TYPES: Final = (
    ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BOOL, ir.DataType.INT32,
    ir.DataType.INT64, *_BYTES,
)  # fmt: skip
_MOVES: Final = frozenset(
    {
        "Cast", "Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze",
        "Transpose", "Unsqueeze",
    }
)  # fmt: skip

_QUANTISED: Final = "it is quantised already; codes are chosen here, from the float model"

_NAMED: Final[Mapping[str, str]] = {
    "Attention": "its scores are an output, with the mask in them",
    "BatchNormalization": "it is in training mode",
    "Bernoulli": "HTP draws no random numbers",
    "DeformConv": "HTP has no deformable convolution",
    "DequantizeLinear": _QUANTISED,
    "Dropout": "it is in training mode",
    "Einsum": "it takes a diagonal, or its letters don't fit",
    "IsInf": "half precision has other infinite numbers than float32",
    "IsNaN": "HTP doesn't keep NaN",
    "NonZero": "the size of its result depends on the inputs' numbers",
    "QuantizeLinear": _QUANTISED,
    "RandomNormal": "HTP draws no random numbers",
    "RandomNormalLike": "HTP draws no random numbers",
    "RandomUniform": "HTP draws no random numbers",
    "RandomUniformLike": "HTP draws no random numbers",
    "Unique": "the size of its result depends on the inputs' numbers",
}


def _grid_sample(node: ir.Node) -> str:
    if text(node, "mode", "linear") != "linear":
        return "HTP samples grids linearly; its nearest neighbours are others than ONNX's"
    return "HTP samples grids of images only" if len(sizes_of(needed(node))) != 4 else ""


def _resize(node: ir.Node) -> str:
    # The provider takes whatever makes the sizes of the result, and may compute something else.
    if any(constant_of(input_of(node, index)) is None for index in (2, 3) if input_of(node, index)):
        return "its scales or sizes are no constants"
    if integer(node, "antialias", 0):
        return "HTP doesn't smooth before it shrinks"
    coordinates = text(node, "coordinate_transformation_mode", "half_pixel")
    return "HTP crops no boxes" if coordinates == "tf_crop_and_resize" else ""


def _pool(node: ir.Node) -> str:
    if len(node.outputs) > 1 and node.outputs[1].name:
        return "HTP gives no places of the largest"
    return ""


def _scatter(node: ir.Node) -> str:
    reduction = text(node, "reduction", "none")
    known = ("none", "add", "mul") if node.op_type == "ScatterND" else ("none",)
    return "" if reduction in known else f"HTP doesn't scatter elements by {reduction}"


def _power(node: ir.Node) -> str:
    whole = not dtype_of(needed(node)).is_floating_point()
    return "HTP raises floats only to a power" if whole else ""


def _lstm(node: ir.Node) -> str:
    lengths = len(node.inputs) > 4 and node.inputs[4] is not None
    return "HTP's LSTM takes no lengths of sequences" if lengths else ""


def _non_max_suppression(node: ir.Node) -> str:
    return "the size of its result depends on the inputs' numbers"


def _cast(node: ir.Node) -> str:
    if dtype_of(needed(node)) == ir.DataType.INT8:
        return "HTP takes bytes as codes of quantised numbers, not as integers"
    return ""


_FORMS: Final[Mapping[str, Callable[[ir.Node], str]]] = {
    "Cast": _cast,
    "GridSample": _grid_sample,
    "LSTM": _lstm,
    "MaxPool": _pool,
    "NonMaxSuppression": _non_max_suppression,
    "Pow": _power,
    "Resize": _resize,
    "ScatterElements": _scatter,
    "ScatterND": _scatter,
}

"""Which operators are legal at which stage: an executable table, checked between passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.provenance import module_of

Stage = Literal[
    "canonical", "expanded", "simulated", "cpu", "htp", "htp-quantised", "htp-plain", "qaic"
]  # fmt: skip

_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Neg", "Tanh", "Sigmoid", "Gelu", "Cast"}
_SHAPING = {
    "Concat", "Expand", "Gather", "Range", "Reshape", "Shape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
}  # fmt: skip
_LOGIC = {"And", "Or", "Not", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where"}
_COMPOSITE = {"Attention", "RotaryEmbedding", "RMSNormalization"}
_BASE = _ELEMENTWISE | _SHAPING | _LOGIC | {"MatMul", "Constant"}
_EXPANDED = _BASE | {"Softmax", "RMSNormalization"}
_DYNAMIC = {"Abs", "Max", "ReduceMax", "Round"}
_ROUNDING = _DYNAMIC | {"DequantizeLinear", "Pad", "QuantizeLinear"}
# Static: no shape is computed, and the mask comes from outside.
_HTP = {
    "Add", "Concat", "Div", "Gather", "Gelu", "MatMul", "Mul", "RMSNormalization", "Reshape",
    "Sigmoid", "Softmax", "Split", "Sub", "Tanh", "Transpose",
}  # fmt: skip

LEGAL: Final[Mapping[Stage, Mapping[str, frozenset[str]]]] = {
    "canonical": {"": frozenset(_BASE | _COMPOSITE)},
    "expanded": {"": frozenset(_EXPANDED)},
    "simulated": {"": frozenset(_EXPANDED | _ROUNDING)},
    "cpu": {
        "": frozenset(
            _BASE | _COMPOSITE | _DYNAMIC | {"ReduceSum", "SimplifiedLayerNormalization"}
        ),
        "com.microsoft": frozenset(
            {
                "GatherBlockQuantized", "GroupQueryAttention", "MatMulNBits",
                "SkipSimplifiedLayerNormalization", "QuickGelu",
            }
        ),
    },
    "htp": {"": frozenset(_HTP)},
    "htp-quantised": {"": frozenset(_HTP | {"QuantizeLinear", "DequantizeLinear"})},
    "htp-plain": {"": frozenset(_HTP - {"RMSNormalization"} | {"Pow", "ReduceMean", "Sqrt"})},
    "qaic": {
        "": frozenset(
            _BASE - {"Gelu"}
            | {"ArgMax", "CumSum", "Equal", "Erf", "GatherElements", "GatherND", "Log"}
            | {"ReduceMax", "Softmax", "TopK"}
        ),
        "com.qualcomm.cloud": frozenset(
            {"CtxGather", "CtxGatherCB", "CtxScatter", "CtxScatterCB", "CtxScatterCB3D"}
        ),
        "com.qti.aisw.onnx": frozenset({"CustomRMSNorm"}),
    },
}  # fmt: skip


def check_legal(model: ir.Model, stage: Stage, where: Where) -> None:
    """Check that every node is legal at `stage`.

    Raises:
        ModelcError: names the first illegal operator and its module path.
    """
    for node in model.graph.all_nodes():
        if node.op_type not in LEGAL[stage].get(node.domain, frozenset()):
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ModelcError(
                f"operator {operator} ({node.name}) is not legal in {stage} graphs",
                where=Where(where.step, where.graph, module_of(node), where.path),
                hint="this is a defect of the pass named here; report it with --dump-ir's files",
            )

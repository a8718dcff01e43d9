"""Which operators are legal at which stage: an executable table, checked between passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.provenance import module_of

Stage = Literal[
    "canonical", "expanded", "simulated", "cpu", "htp", "htp-quantised", "htp-plain", "qaic",
    "network", "htp-network", "htp-network-quantised", "cuda",
]  # fmt: skip

_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Neg", "Tanh", "Sigmoid", "Gelu", "Cast"}
_SHAPING = {
    "Concat", "Expand", "Gather", "Range", "Reshape", "Shape", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
}  # fmt: skip
_LOGIC = {"And", "Or", "Not", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Where"}
_COMPOSITE = {"Attention", "RotaryEmbedding", "RMSNormalization"}
_BASE = _ELEMENTWISE | _SHAPING | _LOGIC | {"MatMul", "Constant"}
_ROUTING = {"Equal", "ReduceSum", "ScatterElements", "Softmax", "TopK"}  # of a mixture of experts
_EXPANDED = _BASE | _ROUTING | {"RMSNormalization"}
_DYNAMIC = {"Abs", "Max", "ReduceMax", "Round"}
_ROUNDING = _DYNAMIC | {"DequantizeLinear", "Pad", "QuantizeLinear"}
# Static: no shape is computed, and the mask comes from outside.
_HTP = {
    "Add", "Concat", "Div", "Gather", "Gelu", "MatMul", "Mul", "RMSNormalization", "Reshape",
    "Sigmoid", "Softmax", "Split", "Sub", "Tanh", "Transpose",
}  # fmt: skip
# Networks on HTP: what the provider takes in at least one form, each asked of it by compiling.
_HTP_NETWORK = {
    "Abs", "Add", "And", "ArgMax", "ArgMin", "Atan", "AveragePool", "Cast", "Ceil", "Clip",
    "Concat", "Conv", "ConvTranspose", "Cos", "CumSum", "DepthToSpace", "Div", "Elu", "Equal",
    "Exp", "Expand", "Flatten", "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gelu",
    "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample",
    "HardSigmoid", "HardSwish", "Identity", "LRN", "LSTM", "LayerNormalization", "LeakyRelu",
    "Less", "LessOrEqual", "Log", "LogSoftmax", "LpNormalization", "MatMul", "Max", "MaxPool",
    "Mean", "Min", "Mod", "Mul", "Neg", "NonMaxSuppression", "Not", "Or", "PRelu", "Pad",
    "Pow", "RMSNormalization", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceSum", "Relu", "Reshape", "Resize", "RoiAlign", "Round", "ScatterElements", "ScatterND",
    "Selu", "Sigmoid", "Sign", "Sin", "Slice", "Softmax", "SpaceToDepth", "Split", "Sqrt",
    "Squeeze", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Transpose",
    "Unsqueeze", "Where", "Xor",
}  # fmt: skip

_CUDA = frozenset(
    {
        "AddGated", "AddRmsNorm", "AllGather", "AllReduce", "Combine", "Embed",
        "ExpertFp8Linear", "ExpertInt4Linear", "ExpertLinear", "Fp8Linear", "Gated",
        "Int4Linear", "Linear", "PagedAttention", "RmsNorm", "Route", "RopeWrite",
        "SelectRows", "Softcap",
    }
)  # fmt: skip


class _Everything(frozenset[str]):
    """Every operator there is."""

    def __contains__(self, name: object) -> bool:
        return True


ANY_DOMAIN: Final = "*"
"""In the table: the domains that it doesn't name, such as those of a user's own operators."""

LEGAL: Final[Mapping[Stage, Mapping[str, frozenset[str]]]] = {
    "canonical": {"": frozenset(_BASE | _COMPOSITE | _ROUTING)},
    "expanded": {"": frozenset(_EXPANDED)},
    "simulated": {"": frozenset(_EXPANDED | _ROUNDING)},
    "cpu": {
        "": frozenset(
            _BASE | _COMPOSITE | _DYNAMIC | _ROUTING | {"SimplifiedLayerNormalization"}
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
    "cuda": {"": frozenset(_BASE | _COMPOSITE | _ROUTING), "modelc.cuda": _CUDA},
    "network": {"": _Everything(), ANY_DOMAIN: _Everything()},
    "htp-network": {"": frozenset(_HTP_NETWORK), ANY_DOMAIN: _Everything()},
    "htp-network-quantised": {
        "": frozenset(_HTP_NETWORK | {"QuantizeLinear", "DequantizeLinear"}),
        ANY_DOMAIN: _Everything(),
    },
}  # fmt: skip


def is_legal(node: ir.Node, stage: Stage) -> bool:
    """Whether a node's operator may occur in graphs of `stage`."""
    table = LEGAL[stage]
    return node.op_type in table.get(node.domain, table.get(ANY_DOMAIN, frozenset()))


def check_legal(model: ir.Model, stage: Stage, where: Where) -> None:
    """Check that every node is legal at `stage`.

    Raises:
        ModelcError: names the first illegal operator and its module path.
    """
    for node in model.graph.all_nodes():
        if not is_legal(node, stage):
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ModelcError(
                f"operator {operator} ({node.name}) is not legal in {stage} graphs",
                where=Where(where.step, where.graph, module_of(node), where.path),
                hint="this is a defect of the pass named here; report it with --dump-ir's files",
            )

"""Computing what is known: shapes, and small constants made of them.

Only operators of exact and cheap results are computed, and only small tensors, so that a small file
can't ask for much work or memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir

from modelc.frontends.onnx.draft import IR_VERSION, LARGEST_KNOWN, OPSET, Draft, sizes_of
from modelc.frontends.onnx.infer import plain_proto

_COMPUTED: Final = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "ArgMin", "Cast", "CastLike", "Ceil", "Clip", "Concat",
        "ConstantOfShape", "CumSum", "Div", "Equal", "Expand", "Flatten", "Floor", "Gather",
        "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less",
        "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pad", "Pow", "Range",
        "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "ScatterElements",
        "ScatterND", "Sign", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose",
        "Unsqueeze", "Where", "Xor",
    }
)  # fmt: skip


def fold(node: ir.Node, draft: Draft) -> Sequence[np.ndarray] | None:
    """Return what a node gives, if that is known and small."""
    if node.domain != "":
        return None
    if node.op_type in ("Shape", "Size"):
        return _measured(node)
    if node.op_type == "NonZero":
        known = draft.known(node.inputs[0])  # as many indices as elements, at most
        return None if known is None or known.ndim == 0 else [np.array(known.nonzero(), np.int64)]
    if node.op_type not in _COMPUTED or not all(map(_is_small, node.outputs)):
        return None
    inputs = [draft.known(value) for value in node.inputs]
    if any(known is None and value is not None for known, value in zip(inputs, node.inputs,
                                                                        strict=True)):  # fmt: skip
        return None
    if node.op_type == "Div" and np.issubdtype(inputs[0].dtype, np.integer):  # type: ignore[union-attr]
        return _whole_quotient(inputs[0], inputs[1])  # type: ignore[arg-type]
    return _computed(node, inputs)


def _is_small(value: ir.Value) -> bool:
    sizes = sizes_of(value)
    return sizes is not None and int(np.prod(sizes, dtype=np.float64)) <= LARGEST_KNOWN


def _measured(node: ir.Node) -> Sequence[np.ndarray] | None:
    sizes = sizes_of(node.inputs[0])
    if sizes is None:
        return None
    if node.op_type == "Size":
        return [np.array(np.prod(sizes, dtype=np.int64), np.int64)]
    first = node.attributes["start"].as_int() if "start" in node.attributes else 0
    last = node.attributes["end"].as_int() if "end" in node.attributes else len(sizes)
    return [np.array(sizes[first:last], np.int64)]


def _whole_quotient(left: np.ndarray, right: np.ndarray) -> Sequence[np.ndarray] | None:
    """Integers are divided towards 0, as ONNX Runtime does; the onnx package rounds down."""
    if (right == 0).any():
        return None
    quotient = np.floor_divide(np.abs(left), np.abs(right))
    return [(quotient * np.sign(left) * np.sign(right)).astype(left.dtype)]


def _computed(node: ir.Node, inputs: Sequence[np.ndarray | None]) -> Sequence[np.ndarray] | None:
    from onnx.reference import ReferenceEvaluator

    proto = plain_proto(node)
    feeds = {name: known for name, known in zip(proto.input, inputs, strict=True) if name}
    graph = onnx.helper.make_graph(
        [proto],
        "one",
        [onnx.helper.make_empty_tensor_value_info(name) for name in feeds],
        [onnx.helper.make_empty_tensor_value_info(name) for name in proto.output if name],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # it raises many types; whoever runs the node will say what is wrong
        return None
    return [_typed(result, value) for result, value in zip(results, node.outputs, strict=True)]


def _typed(result: object, value: ir.Value) -> np.ndarray:
    return np.asarray(result, value.dtype.numpy() if value.dtype is not None else None)

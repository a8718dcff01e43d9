"""Why numbers are other than expected: the case's own, half precision, or HTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir

from modelc.reference.network import NetworkReference
from onnx_nodes.cases import Arrays
from onnx_nodes.compare import HALF_LARGEST, compare

LOWERED: Final = "the graph as it is lowered gives that in float32, too"
TOO_LARGE: Final = "beyond 65504, half precision's largest number"
ROUNDED: Final = "each result rounded to half precision gives that"
COARSE: Final = "half precision is too coarse for it: correctly rounded results are off, too"


def explain(
    lowered: ir.Model,
    inputs: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    tolerance: float,
) -> str:
    """Return why what half precision `found` isn't `expected`; "" if it can't be told."""
    try:
        if compare(expected, NetworkReference(lowered).run(inputs), tolerance).difference:
            return LOWERED
        values = in_half_precision(lowered, inputs)
    except Exception:  # no kernel on the CPU: then nothing is known
        return ""
    floats = [value for value in (*values.values(), *expected.values()) if value.dtype.kind == "f"]
    if any(np.abs(value[np.isfinite(value)]).max(initial=0) > HALF_LARGEST for value in floats):
        return TOO_LARGE
    emulated = {name: _to_half(values[name]) for name in expected}
    if not compare(emulated, found, tolerance).difference:
        return ROUNDED
    return COARSE if compare(expected, emulated, tolerance).difference else ""


def in_half_precision(model: ir.Model, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Return all values of a flat graph, computed node by node with floats of half precision; what
    is larger than that has stays as it is, to be seen."""
    from onnx.reference import ReferenceEvaluator

    values = {name: _to_half(array) for name, array in inputs.items()}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        values[name] = _to_half(value.const_value.numpy())
    proto = ir.serde.serialize_model(model)
    for node in proto.graph.node:
        alone = onnx.helper.make_model(
            onnx.helper.make_graph(
                [node],
                "alone",
                [_port(name, values[name]) for name in dict.fromkeys(node.input) if name],
                [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
            ),
            opset_imports=proto.opset_import,
            ir_version=proto.ir_version,
        )
        feeds = {name: values[name] for name in node.input if name}
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(alone).run(None, feeds)
        names = [name for name in node.output if name]
        values.update({n: _to_half(np.asarray(r)) for n, r in zip(names, results, strict=True)})
    return values


def _port(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, array.shape)


def _to_half(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16).astype(np.float32)
    return np.where(np.isfinite(rounded), rounded, array)

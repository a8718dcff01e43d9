"""Encodings of a quantised graph's weights, in AIMET's words, read from the graph itself."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.encodings import Encoding
from modelc.quant.aimet.encodings import (
    TensorEncoding,
    from_activation,
    from_low_power_blocks,
    from_scales,
)

CODES: Final = ".codes"
"""What `passes.htp.quantise` calls the codes of a weight, after the weight's own name."""


def parameter_encodings(quantised: ir.Model) -> dict[str, TensorEncoding]:
    """Return the encoding of every weight of a graph with QDQ, by its name in the float graph.

    Only scales and zero points are read; the graph may be one whose weights lie in a file. Biases
    are left out, as AIMET leaves them: they take the scale of the product that they are added to.
    """
    found = {}
    for node in quantised.graph:
        codes = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        if codes is None or codes.const_value is None or _is_scale(node):
            continue
        if not _is_bias(node, codes.const_value):
            name = str(codes.name).removesuffix(CODES)
            found[name] = _encoding(node, codes.const_value)
    return found


def _encoding(node: ir.Node, codes: ir.TensorProtocol) -> TensorEncoding:
    scale, block = node.inputs[1], _integer(node, "block_size")
    assert scale is not None
    if (maker := scale.producer()) is not None:
        factors, channels = _numbers(maker, 0), _numbers(maker, 1)
        return from_low_power_blocks(channels, factors.T, codes.dtype.bitwidth, block)
    scales, zeros = _numbers(node, 1), _numbers(node, 2)
    if not scales.ndim:
        dtype: Any = codes.dtype.numpy().name
        return from_activation(Encoding(float(scales), int(zeros), dtype))
    assert not zeros.any(), "scales of channels and blocks go with codes around 0"
    return from_scales(scales.T, codes.dtype.bitwidth, block)


def _numbers(node: ir.Node, index: int) -> np.ndarray:
    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    return value.const_value.numpy()


def _integer(node: ir.Node, name: str) -> int:
    attribute = node.attributes.get(name)
    return attribute.as_int() if attribute else 0


def _is_scale(node: ir.Node) -> bool:
    """Whether what comes out are the scales of another node's codes."""
    return any(use.idx == 1 and use.node.op_type == node.op_type for use in node.outputs[0].uses())


def _is_bias(node: ir.Node, codes: ir.TensorProtocol) -> bool:
    """Whether what comes out is a vector that is added to something."""
    users = {use.node.op_type for use in node.outputs[0].uses()}
    return users == {"Add"} and len(codes.shape) == 1

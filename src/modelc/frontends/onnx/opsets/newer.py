"""Nodes of opsets newer than the canonical one."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from modelc.frontends.onnx.draft import Rewrite


def mod(node: ir.Node, rewrite: Rewrite) -> None:
    """Opset 28 lets floats be divided as integers are, with the divisor's sign."""
    data = node.inputs[0]
    whole = "fmod" not in node.attributes or node.attributes["fmod"].as_int() == 0
    if whole and (data is None or data.dtype is None or data.dtype.is_floating_point()):
        raise rewrite.refuse("of floats needs opset 28", "export with opset 23")


def swish(node: ir.Node, rewrite: Rewrite) -> Sequence[ir.Value]:
    """Swish, of opset 24, is x * sigmoid(alpha * x)."""
    data = node.inputs[0]
    assert data is not None
    alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
    scaled = data
    if alpha != 1:
        scaled = rewrite.emit("Mul", [data, rewrite.number_like(data, alpha, "alpha")])
    return [rewrite.emit("Mul", [data, rewrite.emit("Sigmoid", [scaled])])]

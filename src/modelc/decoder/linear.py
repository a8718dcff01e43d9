"""The parts that layers are made of: linear layers, RMS norms, softcaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from modelc.decoder.config import DecoderModel
from modelc.ir.emit import Scope, dims_of, new_value


def linear(
    scope: Scope, source: DecoderModel, x: ir.Value, width: int, result: str = ""
) -> ir.Value:
    """x @ weight.T (+ bias), called `result`, or as the scope if that is not given."""
    dims = [*dims_of(x)[:-1], width]
    result = result or scope.module
    weight, bias = scope.path("weight"), scope.path("bias")
    matrix = scope.weight(weight, replace(source.weights[weight], transposed=True))
    if bias not in source.weights:
        (product,) = scope.emit_many("MatMul", [x, matrix], [new_value(result, dims)])
        return product
    product = scope.emit("MatMul", [x, matrix], dims, "product")
    (total,) = scope.emit_many(
        "Add", [product, scope.weight(bias, source.weights[bias])], [new_value(result, dims)]
    )
    return total


def rms_norm(scope: Scope, source: DecoderModel, x: ir.Value) -> ir.Value:
    """x / rms(x) * weight over the last axis."""
    weight = scope.path("weight")
    scale = scope.weight(weight, source.weights[weight])
    epsilon = source.config.norm_epsilon
    return scope.emit("RMSNormalization", [x, scale], dims_of(x), axis=-1, epsilon=epsilon)


def softcap(scope: Scope, x: ir.Value, cap: float, result: str) -> ir.Value:
    """cap * tanh(x / cap), called `result`."""
    limit = scope.constant(scope.path("softcap"), np.array(cap, np.float32))
    ratio = scope.emit("Div", [x, limit], dims_of(x), "ratio")
    bounded = scope.emit("Tanh", [ratio], dims_of(x), "tanh")
    (capped,) = scope.emit_many("Mul", [bounded, limit], [new_value(result, dims_of(x))])
    return capped

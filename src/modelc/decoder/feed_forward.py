"""The gated feed-forward of a layer, or of one expert."""

from __future__ import annotations

import onnx_ir as ir

from modelc.decoder.config import DecoderModel
from modelc.decoder.linear import linear
from modelc.ir.emit import Scope, dims_of


def feed_forward(scope: Scope, source: DecoderModel, x: ir.Value, width: int) -> ir.Value:
    """down(activation(gate(x)) * up(x)), `width` wide between; x is [..., hidden]."""
    gate = linear(scope.inside("gate_proj"), source, x, width)
    up = linear(scope.inside("up_proj"), source, x, width)
    if source.config.activation == "silu":
        sigmoid = scope.emit("Sigmoid", [gate], dims_of(gate), "sigmoid")
        active = scope.emit("Mul", [gate, sigmoid], dims_of(gate), "activation")
    else:
        kind = "tanh" if source.config.activation == "gelu_tanh" else "none"
        active = scope.emit("Gelu", [gate], dims_of(gate), "activation", approximate=kind)
    product = scope.emit("Mul", [active, up], dims_of(up), "product")
    return linear(scope.inside("down_proj"), source, product, source.config.hidden_size)

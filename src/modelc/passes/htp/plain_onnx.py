"""Recent operators spelled out, and an older ONNX, for converters that know no other.

The norm is written as exporters of PyTorch write it, `weight * (x * (1 / sqrt(mean(x^2) + eps)))`,
which converters know again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.htp.static import scope_in, sizes_of

PLAIN: Final = 17
"""The opset: all that is left means the same in it, but for Gelu."""

WITH_GELU: Final = 20
IR_VERSION: Final = 8  # that opset 17 came with


@dataclass(frozen=True)
class PlainOnnx(Pass):
    """RMSNormalization becomes seven operators, and the model one of an older opset. Tensors keep
    their names; those between the seven are new."""

    name: ClassVar[str] = "plain_onnx"
    before: ClassVar[Stage] = "htp"
    after: ClassVar[Stage] = "htp-plain"

    def apply(self, model: ir.Model) -> ir.Model:
        gelu = any(node.op_type == "Gelu" for node in model.graph)
        opset = WITH_GELU if gelu else PLAIN
        for node in list(model.graph):
            if node.op_type == "RMSNormalization":
                _spell_out(model.graph, node, opset)
        model.graph.opset_imports[""] = opset
        model.ir_version = IR_VERSION
        return model


def _spell_out(graph: ir.Graph, node: ir.Node, opset: int) -> None:
    (source, weight), (result,) = node.inputs, node.outputs
    assert source is not None and weight is not None
    epsilon = node.attributes["epsilon"].as_float()
    scope, sizes = scope_in(graph, module_of(node)), sizes_of(source)
    assert node.attributes["axis"].as_int() in (-1, len(sizes) - 1)
    one = [*sizes[:-1], 1]
    squares = scope.emit("Pow", [source, _number(scope, "norm.two", 2)], sizes, "squares")
    mean = _mean(scope, squares, one, opset)
    shifted = scope.emit("Add", [mean, _number(scope, f"norm.epsilon.{epsilon!r}", epsilon)], one,
                         "mean_shifted")  # fmt: skip
    root = scope.emit("Sqrt", [shifted], one, "root")
    inverse = scope.emit("Div", [_number(scope, "norm.one", 1), root], one, "inverse_root")
    normal = scope.emit("Mul", [source, inverse], sizes, "normal")
    weighted = scope.emit("Mul", [weight, normal], sizes, "weighted")
    nodes = scope.sheet.nodes
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [result], [weighted])


def _mean(scope: Scope, value: ir.Value, sizes: list[int], opset: int) -> ir.Value:
    """The mean over the last axis, which opset 18 made an input."""
    if opset < 18:
        return scope.emit("ReduceMean", [value], sizes, "mean", axes=[-1], keepdims=1)
    axes = scope.constant("norm.axes", np.array([-1], np.int64))
    return scope.emit("ReduceMean", [value, axes], sizes, "mean", keepdims=1)


def _number(scope: Scope, name: str, number: float) -> ir.Value:
    return scope.constant(name, np.array(number, np.float32))

"""The expanded graph in the operators that the card's compiler knows, of an older ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput
from modelc.ir.emit import Scope, Sheet, dims_of
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.qaic.functions import AISW, FIRST_OPSET, OPSET, RMS_NORM

IR_VERSION: Final = 8  # that opset 17 came with


@dataclass(frozen=True)
class CardOperators(Pass):
    """RMSNormalization becomes the card's norm, Gelu is spelled out; results keep their names.

    Attributes:
        opset: of the default domain, 17, or 13 for SDK 1.20.
    """

    opset: int = OPSET
    name: ClassVar[str] = "card_operators"
    before: ClassVar[Stage] = "expanded"
    after: ClassVar[Stage] = "qaic"

    def apply(self, model: ir.Model) -> ir.Model:
        if self.opset not in (FIRST_OPSET, OPSET):
            raise BadInput(
                f"graphs for the card are of opset {OPSET}, or {FIRST_OPSET} for SDK 1.20, "
                f"not {self.opset}"
            )
        for node in list(model.graph):
            scope = Scope(module_of(node), Sheet(initializers=model.graph.initializers))
            if node.op_type == "RMSNormalization":
                result = _norm(scope, node)
            elif node.op_type == "Gelu":
                result = _gelu(scope, node)
            else:
                continue
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], scope.sheet.nodes, node.outputs, [result]
            )
        model.graph.opset_imports[""] = self.opset
        model.ir_version = IR_VERSION
        return model


def _norm(scope: Scope, node: ir.Node) -> ir.Value:
    source = node.inputs[0]
    assert source is not None
    epsilon = node.attributes["epsilon"].as_float()
    return scope.emit(
        RMS_NORM, node.inputs, dims_of(source), "normed", domain=AISW, epsilon=epsilon
    )


def _gelu(scope: Scope, node: ir.Node) -> ir.Value:
    """x / 2 * (1 + erf(x / sqrt 2)), or 1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)) for erf's."""
    (source,) = node.inputs
    assert source is not None
    dims = dims_of(source)

    def number(name: str, value: float) -> ir.Value:
        return scope.constant(f"gelu.{name}", np.array(value, np.float32))

    def step(op_type: str, inputs: list[ir.Value], name: str) -> ir.Value:
        return scope.emit(op_type, inputs, dims, f"gelu.{name}")

    if node.attributes.get_string("approximate", "none") == "tanh":
        square = step("Mul", [source, source], "square")
        cubed = step("Mul", [square, number("cubic", 0.044715)], "cubic")
        bent = step("Add", [cubed, number("one", 1.0)], "bent")
        inner = step("Mul", [source, bent], "inner")
        scaled = step("Mul", [inner, number("scale", sqrt(2 / pi))], "scaled")
        curve = step("Tanh", [scaled], "curve")
    else:
        scaled = step("Mul", [source, number("inverse_root", sqrt(0.5))], "scaled")
        curve = step("Erf", [scaled], "curve")
    raised = step("Add", [curve, number("one", 1.0)], "raised")
    half = step("Mul", [source, number("half", 0.5)], "half")
    return step("Mul", [half, raised], "result")

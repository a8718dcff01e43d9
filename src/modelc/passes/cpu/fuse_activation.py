"""SiLU in one pass over its tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import MICROSOFT, import_contrib, only_reader, replace, scope_at


@dataclass(frozen=True)
class FuseActivation(Pass):
    """x * sigmoid(x) becomes QuickGelu with alpha 1."""

    name: ClassVar[str] = "fuse_activation"
    before: ClassVar[Stage] = "cpu"
    after: ClassVar[Stage] = "cpu"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        import_contrib(model)
        for node in list(graph):
            if node.op_type != "Sigmoid":
                continue
            (x,) = node.inputs
            product = only_reader(node.outputs[0])
            if x is None or product is None or product.op_type != "Mul" or x not in product.inputs:
                continue
            scope = scope_at(graph, product)
            result = new_value(str(product.outputs[0].name), dims_of(x))
            scope.emit_many("QuickGelu", [x], [result], domain=MICROSOFT, alpha=1.0)
            replace(graph, [node, product], scope, product.outputs, [result])
        return model

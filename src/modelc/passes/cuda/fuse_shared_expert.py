"""The expert of all tokens, weighed by a gate of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cuda.dialect import DOMAIN, has_one_reader, made_by, nodes_of


@dataclass(frozen=True)
class FuseSharedExpert(Pass):
    """x + y * sigmoid(gate), the gate being one number for each token, becomes AddGated."""

    name: ClassVar[str] = "fuse_shared_expert"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for add in nodes_of(graph, "Add"):
            x, weighed = add.inputs
            product = made_by(weighed, "Mul")
            if product is None or weighed is None or not has_one_reader(weighed):
                continue
            y, share = product.inputs
            sigmoid = made_by(share, "Sigmoid")
            if sigmoid is None or share is None or dims_of(share)[-1] != 1:
                continue
            scope, result = scope_at(graph, add), add.outputs[0]
            made = new_value(str(result.name), dims_of(result))
            scope.emit_many("AddGated", [x, y, sigmoid.inputs[0]], [made], domain=DOMAIN)
            replace(graph, [sigmoid, product, add], scope, [result], [made])
        return model

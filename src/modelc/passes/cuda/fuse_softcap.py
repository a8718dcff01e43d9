"""Softcapped logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import only_reader, replace, scope_at
from modelc.passes.cuda.dialect import DOMAIN, made_by, nodes_of


@dataclass(frozen=True)
class FuseSoftcap(Pass):
    """cap * tanh(x / cap) becomes Softcap."""

    name: ClassVar[str] = "fuse_softcap"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for tanh in nodes_of(graph, "Tanh"):
            ratio, product = made_by(tanh.inputs[0], "Div"), only_reader(tanh.outputs[0])
            if ratio is None or product is None or product.op_type != "Mul":
                continue
            x, cap = ratio.inputs
            if cap is None or cap.const_value is None or product.inputs[1] is not cap:
                continue
            scope, result = scope_at(graph, product), product.outputs[0]
            made = new_value(str(result.name), dims_of(result))
            value = float(cap.const_value.numpy())
            scope.emit_many("Softcap", [x], [made], domain=DOMAIN, cap=value)
            replace(graph, [ratio, tanh, product], scope, [result], [made])
        return model

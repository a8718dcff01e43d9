"""Gates computed where the layer's results are still in registers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import onnx_ir as ir

from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cuda.dialect import DOMAIN, has_one_reader, nodes_of

LINEARS: Final = ("Linear", "Int4Linear", "Fp8Linear")


@dataclass(frozen=True)
class FuseEpilogues(Pass):
    """Gated of one layer's result becomes that layer's activation."""

    name: ClassVar[str] = "fuse_epilogues"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for gated in nodes_of(graph, "Gated"):
            (x,) = gated.inputs
            linear = x.producer() if x is not None else None
            if x is None or linear is None or linear.op_type not in LINEARS:
                continue
            if not has_one_reader(x):
                continue
            scope, result = scope_at(graph, gated), gated.outputs[0]
            made = new_value(str(result.name), dims_of(result))
            attributes = {name: attribute.value for name, attribute in linear.attributes.items()}
            attributes["activation"] = gated.attributes.get_string("activation", "none")
            scope.emit_many(linear.op_type, linear.inputs, [made], domain=DOMAIN, **attributes)
            replace(graph, [linear, gated], scope, [result], [made])
        return model

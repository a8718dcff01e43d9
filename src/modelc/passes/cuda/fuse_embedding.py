"""Looking up tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import only_reader, replace, scope_at
from modelc.passes.cuda.dialect import DOMAIN, nodes_of


@dataclass(frozen=True)
class FuseEmbedding(Pass):
    """Gather of a table by tokens, with the factor behind it if there is one, becomes Embed."""

    name: ClassVar[str] = "fuse_embedding"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for node in nodes_of(graph, "Gather"):
            table, ids = node.inputs
            if ids is not graph.inputs[0]:
                continue
            old, factor = [node], 1.0
            after = only_reader(node.outputs[0])
            if after is not None and after.op_type == "Mul" and after.inputs[1] is not None:
                constant = after.inputs[1].const_value
                if constant is not None and constant.size == 1:
                    old, factor = [node, after], float(constant.numpy())
            last = old[-1].outputs[0]
            scope = scope_at(graph, node)
            result = new_value(str(last.name), dims_of(last))
            scope.emit_many("Embed", [ids, table], [result], domain=DOMAIN, scale=factor)
            replace(graph, old, scope, [last], [result])
        return model

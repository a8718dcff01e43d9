"""The attention scale applied to the queries: D instead of CL products for each query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.htp.static import scope_in, sizes_of


@dataclass(frozen=True)
class ScaleQueries(Pass):
    """`scale * (q @ k)` becomes `(scale * q) @ k`."""

    name: ClassVar[str] = "scale_queries"
    before: ClassVar[Stage] = "htp"
    after: ClassVar[Stage] = "htp"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for node in list(graph):
            scaled = node.outputs[0]
            if node.op_type != "Mul" or not str(scaled.name).endswith(".self_attn.scaled"):
                continue
            scores, scale = node.inputs
            assert scores is not None
            product = scores.producer()
            assert product is not None and product.op_type == "MatMul"
            queries, keys = product.inputs
            assert queries is not None
            scope = scope_in(graph, module_of(node))
            smaller = scope.emit("Mul", [queries, scale], sizes_of(queries), "q_scaled")
            replacement = scope.emit("MatMul", [smaller, keys], sizes_of(scaled), "scaled")
            ir.convenience.replace_nodes_and_values(
                graph, node, [node], scope.sheet.nodes, [scaled], [replacement]
            )
        RemoveUnusedNodesPass()(model)
        return model

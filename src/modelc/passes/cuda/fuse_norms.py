"""RMS norms, with the residual sum before them where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.emit import dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cuda.dialect import DOMAIN, made_by, nodes_of


@dataclass(frozen=True)
class FuseNorms(Pass):
    """RMSNormalization becomes RmsNorm; that of a sum becomes AddRmsNorm with both results.

    Attributes:
        sums: take the sums in; without, each stays an operator of its own.
    """

    sums: bool = True
    name: ClassVar[str] = "fuse_norms"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for node in nodes_of(graph, "RMSNormalization"):
            x, weight = node.inputs[:2]
            assert x is not None
            epsilon = node.attributes.get_float("epsilon", 1e-5)
            scope, result = scope_at(graph, node), node.outputs[0]
            normed = new_value(str(result.name), dims_of(result))
            add = made_by(x, "Add") if self.sums else None
            if add is None or not _is_residual(add):
                scope.emit_many("RmsNorm", [x, weight], [normed], domain=DOMAIN, epsilon=epsilon)
                replace(graph, [node], scope, [result], [normed])
                continue
            total = new_value(str(x.name), dims_of(x))
            scope.emit_many(
                "AddRmsNorm", [*add.inputs, weight], [total, normed], domain=DOMAIN,
                epsilon=epsilon,
            )  # fmt: skip
            replace(graph, [add, node], scope, [x, result], [total, normed], at=node)
        return model


def _is_residual(add: ir.Node) -> bool:
    """Whether it adds two tensors that are computed, of one shape."""
    shapes = [dims_of(v) for v in add.inputs if v is not None and v.const_value is None]
    return len(shapes) == 2 and shapes[0] == shapes[1]

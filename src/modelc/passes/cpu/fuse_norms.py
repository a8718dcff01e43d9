"""RMS norms as ONNX Runtime's own kernels, with the residual sum before them where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.cpu.contrib import MICROSOFT, import_contrib, producer, replace, scope_at


@dataclass(frozen=True)
class FuseNorms(Pass):
    """RMSNormalization becomes SimplifiedLayerNormalization; norm(a + b), whose sum is read again
    further down, becomes SkipSimplifiedLayerNormalization with both results."""

    name: ClassVar[str] = "fuse_norms"
    before: ClassVar[Stage] = "cpu"
    after: ClassVar[Stage] = "cpu"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        import_contrib(model)
        for node in list(graph):
            if node.op_type != "RMSNormalization":
                continue
            scope = scope_at(graph, node)
            x = node.inputs[0]
            add = producer(x, "Add")
            if add is not None and x is not None and _is_residual(add):
                results = _skip_norm(scope, node, add)
                replace(graph, [add, node], scope, [x, node.outputs[0]], results)
            else:
                replace(graph, [node], scope, node.outputs, [_norm(scope, node)])
        return model


def _is_residual(add: ir.Node) -> bool:
    """Two tensors of one shape, [batch, sequence, hidden]; not a bias, and no other norm's sum."""
    left, right = add.inputs
    assert left is not None and right is not None
    readers = [node.op_type for node in add.outputs[0].consumers()]
    return (
        not left.is_initializer()
        and not right.is_initializer()
        and len(dims_of(left)) == 3
        and dims_of(left) == dims_of(right)
        and readers.count("RMSNormalization") == 1
        and not add.outputs[0].is_graph_output()
    )


def _skip_norm(scope: Scope, node: ir.Node, add: ir.Node) -> list[ir.Value]:
    """Return the sum and its norm."""
    left, right = add.inputs
    total = new_value(str(add.outputs[0].name), dims_of(add.outputs[0]))
    norm = new_value(str(node.outputs[0].name), dims_of(node.outputs[0]))
    outputs = [norm]
    if len(add.outputs[0].uses()) > 1:
        outputs += [ir.Value(name=""), ir.Value(name=""), total]
    scope.emit_many(
        "SkipSimplifiedLayerNormalization",
        [left, right, node.inputs[1]],
        outputs,
        domain=MICROSOFT,
        epsilon=node.attributes.get_float("epsilon"),
    )
    return [total, norm]


def _norm(scope: Scope, node: ir.Node) -> ir.Value:
    result = new_value(str(node.outputs[0].name), dims_of(node.outputs[0]))
    scope.emit_many(
        "SimplifiedLayerNormalization",
        node.inputs,
        [result],
        axis=-1,
        epsilon=node.attributes.get_float("epsilon"),
    )
    return result

"""Gated feed-forwards: activation and product in one."""

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
class FuseGates(Pass):
    """activation(gate) * up becomes Gated of the two side by side, which `MergeLinears` then has
    one layer make."""

    name: ClassVar[str] = "fuse_gates"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        for node in nodes_of(graph, "Mul"):
            active, up = node.inputs
            found = _activation(active)
            if found is None or up is None:
                continue
            gate, name, old = found
            width = dims_of(up)[-1]
            assert isinstance(width, int)
            scope = scope_at(graph, node)
            both = scope.emit("Concat", [gate, up], ["tokens", 2 * width], "gate+up", axis=-1)
            result = new_value(str(node.outputs[0].name), dims_of(up))
            scope.emit_many("Gated", [both], [result], domain=DOMAIN, activation=name)
            replace(graph, [*old, node], scope, node.outputs, [result])
        return model


def _activation(value: ir.Value | None) -> tuple[ir.Value, str, list[ir.Node]] | None:
    """Return what an activation was taken of, its name and its nodes."""
    gelu = made_by(value, "Gelu")
    if gelu is not None and value is not None and has_one_reader(value):
        assert gelu.inputs[0] is not None
        kind = gelu.attributes.get_string("approximate", "none")
        return gelu.inputs[0], "gelu_tanh" if kind == "tanh" else "gelu", [gelu]
    product = made_by(value, "Mul")
    if product is None or value is None or not has_one_reader(value):
        return None
    gate, sigmoid = product.inputs[0], made_by(product.inputs[1], "Sigmoid")
    if gate is None or sigmoid is None or sigmoid.inputs[0] is not gate:
        return None
    return gate, "silu", [sigmoid, product]

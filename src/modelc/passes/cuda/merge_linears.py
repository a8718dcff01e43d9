"""Layers whose results are read side by side, as one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final

import onnx_ir as ir

from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.packing.kinds import KINDS
from modelc.ir.provenance import module_of
from modelc.passes.base import Pass
from modelc.passes.cpu.coding import kind_of
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cpu.linears import Linear, SideBySide, linears, matrices_of
from modelc.passes.cuda.dialect import has_one_reader, nodes_of

FLOAT: Final = "float"


@dataclass(frozen=True)
class MergeLinears(Pass):
    """q, k, v and gate, up: a Concat of layers that read the same tensor and whose weights are of
    one kind becomes one layer.

    Attributes:
        kinds: module path -> kind of its weights, "" for most; "float" leaves them as they are.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    name: ClassVar[str] = "merge_linears"
    before: ClassVar[Stage] = "cuda"
    after: ClassVar[Stage] = "cuda"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        by_result = {linear.result: linear for linear in linears(graph)}
        for node in nodes_of(graph, "Concat"):
            group = [by_result[v] for v in node.inputs if v is not None and v in by_result]
            if len(group) == len(node.inputs) and self._go_together(group):
                _merge(graph, node, group)
        return model

    def _go_together(self, group: Sequence[Linear]) -> bool:
        kinds = {kind_of(module_of(linear.nodes[0]), self.kinds) for linear in group}
        alike = {(linear.x, linear.bias is None) for linear in group}
        alone = all(has_one_reader(linear.result) for linear in group)
        return alone and len(alike) == len(kinds) == 1 and self._whole_blocks(group, kinds.pop())

    @staticmethod
    def _whole_blocks(group: Sequence[Linear], kind: str) -> bool:
        """Blocks of several rows may not reach from one layer into the next."""
        rows = 1 if kind == FLOAT else KINDS[kind].block_rows
        return rows < 2 or all(linear.width % rows == 0 for linear in group)


def _merge(graph: ir.Graph, concat: ir.Node, group: Sequence[Linear]) -> None:
    names = [str(linear.weight.name).removesuffix(".weight") for linear in group]
    name = f"{names[0].rpartition('.')[0]}." + "+".join(n.rpartition(".")[2] for n in names)
    nodes = [node for linear in group for node in linear.nodes]
    scope, result = scope_at(graph, concat), concat.outputs[0]
    made = new_value(str(result.name), dims_of(result))
    weight = _side_by_side(scope, [linear.weight for linear in group], f"{name}.weight")
    biases = [linear.bias for linear in group if linear.bias is not None]
    if biases:
        product = new_value(f"{name}.product", dims_of(result))
        scope.emit_many("MatMul", [group[0].x, weight], [product])
        bias = _side_by_side(scope, biases, f"{name}.bias")
        scope.emit_many("Add", [product, bias], [made])
    else:
        scope.emit_many("MatMul", [group[0].x, weight], [made])
    replace(graph, [*nodes, concat], scope, [result], [made])


def _side_by_side(scope: Scope, weights: Sequence[ir.Value], name: str) -> ir.Value:
    sources = [source for weight in weights for source in matrices_of(weight)]
    return scope.tensor(SideBySide(sources, name))

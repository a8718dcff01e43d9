"""Linear layers that read the same tensor as one, so that threads meet less often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import Scope, dims_of, new_value
from modelc.ir.legality import Stage
from modelc.ir.packing.choose import Gguf
from modelc.passes.base import Pass
from modelc.passes.cpu.coding import Coding, Weights, coding_of
from modelc.passes.cpu.contrib import replace, scope_at
from modelc.passes.cpu.linears import Linear, SideBySide, linears, matrices_of


@dataclass(frozen=True)
class MergeLinears(Pass):
    """q, k, v and gate, up become one MatMul and a Split each; GroupQueryAttention reads q, k, v
    unsplit where nothing lies between. Layers are merged only if they are coded alike.

    Attributes:
        weights, gguf, kinds: as in `PackWeights`.
    """

    weights: Weights
    gguf: Gguf = "exact"
    kinds: Mapping[str, str] = field(default_factory=dict)
    name: ClassVar[str] = "merge_linears"
    before: ClassVar[Stage] = "cpu"
    after: ClassVar[Stage] = "cpu"

    def apply(self, model: ir.Model) -> ir.Model:
        graph = model.graph
        groups: dict[tuple[ir.Value, bool, Coding | str], list[Linear]] = {}
        for linear in linears(graph):
            coding = coding_of(linear, self.weights, self.gguf, self.kinds)
            key = (linear.x, linear.bias is None, coding or linear.matrices[0].format)
            groups.setdefault(key, []).append(linear)
        for group in groups.values():
            if len(group) > 1:
                _merge(graph, group)
        for node in list(graph):
            if node.op_type == "GroupQueryAttention":
                _pack_qkv(graph, node)
        return model


def _merge(graph: ir.Graph, group: Sequence[Linear]) -> None:
    x = group[0].x
    names = [str(linear.weight.name).removesuffix(".weight") for linear in group]
    prefix = names[0].rpartition(".")[0]
    name = f"{prefix}." + "+".join(name.rpartition(".")[2] for name in names)
    nodes = [node for linear in group for node in linear.nodes]
    scope = scope_at(graph, nodes[0])
    dims = [*dims_of(x)[:-1], sum(linear.width for linear in group)]
    weight = _side_by_side(scope, [linear.weight for linear in group], f"{name}.weight")
    biases = [linear.bias for linear in group if linear.bias is not None]
    product = new_value(f"{name}.product" if biases else name, dims)
    scope.emit_many("MatMul", [x, weight], [product])
    if biases:
        bias = _side_by_side(scope, biases, f"{name}.bias")
        product = scope.emit_many("Add", [product, bias], [new_value(name, dims)])[0]
    sizes = np.array([linear.width for linear in group], np.int64)
    results = [new_value(str(item.result.name), dims_of(item.result)) for item in group]
    scope.emit_many("Split", [product, scope.constant(f"{name}.sizes", sizes)], results, axis=-1)
    # At the first, because what follows it may read its result before the last is computed.
    replace(graph, nodes, scope, [linear.result for linear in group], results, at=nodes[0])


def _side_by_side(scope: Scope, weights: Sequence[ir.Value], name: str) -> ir.Value:
    sources = [source for weight in weights for source in matrices_of(weight)]
    return scope.tensor(SideBySide(sources, name))


def _pack_qkv(graph: ir.Graph, attention: ir.Node) -> None:
    q, k, v = attention.inputs[:3]
    split = q.producer() if q is not None else None
    if split is None or split.op_type != "Split" or list(split.outputs) != [q, k, v]:
        return
    attention.replace_input_with(0, split.inputs[0])
    attention.replace_input_with(1, None)
    attention.replace_input_with(2, None)
    graph.remove(split, safe=True)

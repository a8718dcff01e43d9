"""Common subexpressions: what is computed twice from the same tensors is computed once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import tensor_of
from modelc.passes.network.remove_dead_code import sweep

SMALL: Final = 1 << 16  # bytes; larger weights that are equal are rare, and reading them isn't
_RANDOM: Final = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip


@dataclass(frozen=True)
class ShareResults(Pass):
    """Equal small constants become one, and so do equal nodes of the same inputs; the first one's
    module path stays. A node that makes an output of the graph stays, because the name does; so do
    random ones and those with subgraphs."""

    name: ClassVar[str] = "share_results"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        _share_constants(model.graph)
        known: dict[Hashable, ir.Node] = {}
        for node in list(model.graph):
            key = _key(node)
            if key is None or any(value.is_graph_output() for value in node.outputs):
                continue
            first = known.setdefault(key, node)
            if first is not node:
                for value, same in zip(node.outputs, first.outputs, strict=True):
                    value.replace_all_uses_with(same)
                model.graph.remove(node, safe=True)
        sweep(model)
        return model


def _share_constants(graph: ir.Graph) -> None:
    known: dict[Hashable, ir.Value] = {}
    for value in list(graph.initializers.values()):
        tensor = tensor_of(value)
        if tensor is None or tensor.nbytes > SMALL or value.is_graph_output():
            continue
        sizes = tuple(int(size) for size in tensor.shape.numpy())
        first = known.setdefault((tensor.dtype, sizes, tensor.tobytes()), value)
        if first is not value:
            value.replace_all_uses_with(first)


def _key(node: ir.Node) -> Hashable | None:
    """Return what makes two nodes the same computation, or None where they never are."""
    if node.op_type in _RANDOM or not node.inputs:
        return None
    attributes = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        attributes.append((name, attribute.type, _hashable(attribute.value)))
    inputs = tuple(id(value) for value in node.inputs)
    named = tuple(bool(value.name) for value in node.outputs)
    return node.domain, node.op_type, inputs, named, tuple(attributes)


def _hashable(value: object) -> Hashable:
    if isinstance(value, ir.TensorProtocol):
        return value.dtype, tuple(value.shape.numpy()), value.tobytes()
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(value)
    return value if isinstance(value, Hashable) else repr(value)

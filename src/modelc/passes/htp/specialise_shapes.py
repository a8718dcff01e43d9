"""One AR-n graph: batch 1, n new tokens, a KV cache that fills the rest of the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.legality import Stage
from modelc.ir.provenance import module_of
from modelc.ir.sizes import evaluate
from modelc.passes.base import Pass
from modelc.passes.htp.static import scope_in, shape_constant, sizes_of


@dataclass(frozen=True)
class SpecialiseShapes(Pass):
    """Expanded to expanded, every size a number.

    Attributes:
        ar: new tokens per call.
        context_length: KV positions, those of the new tokens included.
    """

    ar: int
    context_length: int
    name: ClassVar[str] = "specialise_shapes"
    before: ClassVar[Stage] = "expanded"
    after: ClassVar[Stage] = "expanded"

    def apply(self, model: ir.Model) -> ir.Model:
        if not 0 < self.ar < self.context_length:
            raise BadInput(
                f"AR-{self.ar} doesn't fit a context of {self.context_length}",
                hint="the new tokens of one call must leave room for at least one past position",
            )
        sizes = {
            "batch": 1,
            "sequence": self.ar,
            "past": self.context_length - self.ar,
        }
        graph = model.graph
        for value in graph.inputs:
            _specialise(value, sizes)
        for node in graph:
            for value in node.outputs:
                _specialise(value, sizes)
            if node.op_type == "Reshape":
                scope = scope_in(graph, module_of(node))
                shape = shape_constant(scope, sizes_of(node.outputs[0]))
                node.replace_input_with(1, shape)
        RemoveUnusedNodesPass()(model)
        return model


def _specialise(value: ir.Value, sizes: dict[str, int]) -> None:
    assert value.shape is not None, f"{value.name} has no shape"
    value.shape = evaluate(value.shape, sizes)
    if not value.shape.is_static():
        raise ModelcError(
            f"{value.name} has a size that is not known: {value.shape}",
            where=Where(module=str(value.name)),
        )

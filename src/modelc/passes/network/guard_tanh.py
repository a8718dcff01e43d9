"""Tanh behind a product, which HTP computes as one operator and 3 % too small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import has_sizes, is_op, needed, sizes_of
from modelc.passes.network.sketch import Names, Sketch

_PRODUCTS: Final = frozenset({"Add", "Conv", "ConvTranspose", "Gemm", "MatMul"})
_FAR: Final = 10.0
"""Beyond it a Tanh is 1, to the last bit of a float."""


@dataclass(frozen=True)
class GuardTanh(Pass):
    """A Clip between a product and its Tanh keeps HTP's compiler from fusing them: fused, small
    results in half precision came out 3.3 % too small (30 dB; 66 dB with the Clip)."""

    name: ClassVar[str] = "guard_tanh"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        for node in list(model.graph):
            if not is_op(node, "Tanh") or not has_sizes(node):
                continue
            value = needed(node)
            maker = value.producer()
            if maker is None or maker.op_type not in _PRODUCTS:
                continue
            sketch = Sketch(model.graph, node, names)
            low, high = (sketch.constant(np.array(n, np.float32)) for n in (-_FAR, _FAR))
            guarded = sketch.op("Clip", [value, low, high], sizes_of(value))
            sketch.finish([sketch.op("Tanh", [guarded], sizes_of(value))])
        return model

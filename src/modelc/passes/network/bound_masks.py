"""Masks of attention within the range of half precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import onnx_ir as ir

from modelc.ir.legality import Stage
from modelc.passes.base import Pass
from modelc.passes.network.read import (
    constant_of,
    dtype_of,
    has_sizes,
    is_op,
    made_by,
    needed,
    tensor_of,
)
from modelc.passes.network.remove_dead_code import sweep
from modelc.passes.network.sketch import Names, Sketch

HALF_LOWEST: Final = -65504.0
LARGEST: Final = 1 << 24  # elements of a mask; larger constants are weights, which are not read


@dataclass(frozen=True)
class BoundMasks(Pass):
    """Constants below half precision's lowest number become `masked`, and what keeps NaN out of a
    softmax goes.

    Exporters mask with float32's lowest number or minus infinity. In half precision either is
    infinite, and 0 times that, as in (1 - mask) * lowest, is NaN. Softmax gives 0 for `masked` as
    well; two masks may be added without leaving the range. Only a row in which nothing is left to
    see is another one: the mean of all, where a guard against NaN made zeros of it.

    Attributes:
        masked: what is added to scores that don't count. A quantised graph has finer scores with a
            number nearer to 0.
    """

    masked: float = -30000.0

    name: ClassVar[str] = "bound_masks"
    before: ClassVar[Stage] = "network"
    after: ClassVar[Stage] = "network"

    def apply(self, model: ir.Model) -> ir.Model:
        names = Names(model.graph)
        for node in list(model.graph):
            if not has_sizes(node):
                continue
            if is_op(node, "Where") and (chances := _guarded(node)) is not None:
                sketch = Sketch(model.graph, node, names)
                sketch.finish([sketch.op("Identity", [chances])])
            elif is_op(node, "Add", "Mul", "Sub", "Where", "Concat", "Max", "Expand"):
                self._bound(model.graph, node, names)
        sweep(model)
        return model

    def _bound(self, graph: ir.Graph, node: ir.Node, names: Names) -> None:
        for index, value in enumerate(node.inputs):
            tensor = tensor_of(value)
            if value is None or tensor is None or tensor.size > LARGEST:
                continue
            if not dtype_of(value).is_floating_point():
                continue
            numbers = constant_of(value)
            if numbers is None or not (numbers < HALF_LOWEST).any():
                continue
            bounded = np.where(numbers < HALF_LOWEST, self.masked, numbers).astype(numbers.dtype)
            constant = ir.Value(
                name=names.fresh(f"{value.name}.bounded"), shape=value.shape, type=value.type
            )
            constant.const_value = ir.tensor(bounded)
            graph.initializers[str(constant.name)] = constant
            node.replace_input_with(index, constant)


def _guarded(where: ir.Node) -> ir.Value | None:
    """Match Where(GUARD, 0, softmax), where the guard is IsNaN(softmax), or is that the largest of
    a mask's row is minus infinity."""
    test, zero, chances = (needed(where, index) for index in range(3))
    nan = made_by(test, "IsNaN")
    if not (nan is not None and nan.inputs[0] is chances) and not _is_all_hidden(test):
        return None
    if made_by(chances, "Softmax") is None:
        return None
    numbers = constant_of(zero)
    return chances if numbers is not None and not numbers.any() else None


def _is_all_hidden(test: ir.Value) -> bool:
    """Match Equal(ReduceMax(mask), -inf)."""
    equal = made_by(test, "Equal")
    if equal is None:
        return False
    sides = [needed(equal, index) for index in range(2)]
    limits = [constant_of(side) for side in sides]
    return any(made_by(side, "ReduceMax") is not None for side in sides) and any(
        limit is not None and bool(np.isneginf(limit).all()) for limit in limits
    )

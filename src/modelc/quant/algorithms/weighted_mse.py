"""Round to nearest, with scales of least error where a weight counts as much as its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modelc.quant.algorithms.hessian import checked, importance
from modelc.quant.algorithms.layer import Algorithm, Layer
from modelc.quant.algorithms.search import search, weighted_loss


@dataclass(frozen=True)
class WeightedMse(Algorithm):
    """The squared error of a weight times the mean square of its input: what the outputs lose if
    inputs are not correlated.

    Source: the importance matrices of llama.cpp (its tools/imatrix).
    """

    name: ClassVar[str] = "weighted_mse"
    needs_inputs: ClassVar[bool] = True

    def apply(self, layer: Layer) -> None:
        for module, form in layer.forms.items():
            weights = layer.weights[f"{module}.weight"]
            weight = checked(importance(layer.inputs_of(module)), module)
            grid = search(weights, form, weighted_loss(weight, form.block))
            layer.coded[module] = grid.coded(grid.to_levels(weights))

"""Round to nearest, with the largest magnitude at the last code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modelc.quant.algorithms.layer import Algorithm, Layer
from modelc.quant.algorithms.search import ranged, with_multiples


@dataclass(frozen=True)
class Nearest(Algorithm):
    """Min-max ranges, nothing searched: what the others are measured against.

    Source: Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 3.1.
    """

    name: ClassVar[str] = "nearest"

    def apply(self, layer: Layer) -> None:
        for module, form in layer.forms.items():
            weights = layer.weights[f"{module}.weight"]
            grid = with_multiples(ranged(weights, form))
            layer.coded[module] = grid.coded(grid.to_levels(weights))

"""Round to nearest, with the scales of least squared error of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.algorithms.layer import Algorithm, Layer


@dataclass(frozen=True)
class Mse(Algorithm):
    """What every matrix gets that no other rounding is chosen for.

    Source: `ir/packing/scale_search.py`; more than 4 bits get the whole range.
    """

    name: ClassVar[str] = "mse"

    def apply(self, layer: Layer) -> None:
        for module, form in layer.forms.items():
            layer.coded[module] = quantise_rows(layer.weights[f"{module}.weight"], form)

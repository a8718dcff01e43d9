"""SmoothQuant: outliers of activations move into the weights, which have room for some.

A channel j of a linear layer's input is divided by s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), and
the weights' column j multiplied by it; the division is folded into what makes the channel.
Source: Xiao et al. 2022, "SmoothQuant" (arXiv 2211.10438), equation 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modelc.errors import BadInput
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.seams import (
    Seam,
    column_peaks,
    linear_seams,
    move_factors,
    norm_seams,
)


@dataclass(frozen=True)
class Smooth(Algorithm):
    """Smooth the inputs of all linear layers.

    Attributes:
        alpha: how much of a channel's range moves, from 0 (the weights get the same range in all
            columns) to 1 (the activations get the same range in all channels).
        linears: of o_proj and down_proj too, whose inputs linear layers make; the paper smooths
            behind norms only.
    """

    name: ClassVar[str] = "smooth"
    needs_inputs: ClassVar[bool] = True

    alpha: float = 0.5
    linears: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise BadInput(f"smooth: alpha is {self.alpha}", hint="give a number from 0 to 1")

    def apply(self, layer: Layer) -> None:
        for seam in (*norm_seams(layer), *(linear_seams(layer) if self.linears else ())):
            move_factors(layer, seam, self._factors(layer, seam))

    def _factors(self, layer: Layer, seam: Seam) -> Floats:
        read = layer.inputs_of(seam.behind[0])
        if not len(read):  # of an expert that no token went to
            return np.ones(len(seam.rows(layer)), np.float32)
        inputs = seam.most_of_columns(column_peaks(read))
        peaks = [column_peaks(layer.weights[f"{module}.weight"]) for module in seam.behind]
        weights = seam.most_of_columns(np.max(peaks, axis=0))
        silent = (inputs == 0) | (weights == 0)  # any factor does
        inputs, weights = np.where(silent, 1, inputs), np.where(silent, 1, weights)
        factors: Floats = inputs**self.alpha / weights ** (1 - self.alpha)
        return np.where(silent, 1, factors).astype(np.float32)

"""AWQ: channels that activations make important are scaled up before their weights are rounded.

A column j of the weights is multiplied by s_j = mean|x_j|^a / max|w_j|^b, and what makes the
channel divided by it; the exponents are those, of a grid from 0 to 1, with which the outputs of the
rounded layers lose least: first a, then b. At 0 nothing is scaled, so on the samples that it looks
at it never loses.

Source: Lin et al. 2023, "AWQ: Activation-aware Weight Quantization" (arXiv 2306.00978), section
3.2, where b is 0; dividing by the weights' magnitude is `duo_scaling` of AutoAWQ, with b bound to
1 - a.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from modelc.errors import BadInput
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.algorithms.clip import clip_to_inputs
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.seams import (
    Seam,
    column_peaks,
    linear_seams,
    move_factors,
    norm_seams,
)

LEFT: Final = "awq: error left"
"""In a layer's notes: what is left of the squared error of the outputs of this module and those
that share its inputs, on what the search looked at."""

_QUIETEST: Final = 1e-4  # of the loudest channel: what is quieter is scaled no further


@dataclass(frozen=True)
class Awq(Algorithm):
    """Scale the inputs of all linear layers that are going to be rounded.

    Attributes:
        steps: of the grid.
        tokens, rows: the most of the samples' tokens, and of a matrix's output channels, that the
            search looks at; evenly spaced.
        clip: then clip each block of weights where the outputs lose less by it. Queries and keys
            stay, as in the paper's code. It is for rounding to nearest: roundings that look at
            the outputs themselves do better without.
    """

    name: ClassVar[str] = "awq"
    needs_inputs: ClassVar[bool] = True

    steps: int = 10
    tokens: int = 512
    rows: int = 256
    clip: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.tokens, self.rows) < 1:
            raise BadInput("awq: steps, tokens and rows are at least 1")

    def apply(self, layer: Layer) -> None:
        for seam in (*norm_seams(layer), *linear_seams(layer)):
            if any(module in layer.forms for module in seam.behind):
                move_factors(layer, seam, self._factors(layer, seam))
        if self.clip:
            for module, form in layer.forms.items():
                if form.block_rows == 1 and not module.endswith((".q_proj", ".k_proj")):
                    inputs = spaced(layer.inputs_of(module), self.tokens)
                    if not len(inputs):
                        continue
                    weight = f"{module}.weight"
                    layer.weights[weight] = clip_to_inputs(layer.weights[weight], inputs, form)

    def _factors(self, layer: Layer, seam: Seam) -> Floats:
        """Return the factors that lose least, float32 [channels]; 1 if no token was seen."""
        inputs = spaced(layer.inputs_of(seam.behind[0]), self.tokens)
        if not len(inputs):
            return np.ones(len(seam.rows(layer)), np.float32)
        matrices = [
            (
                spaced(layer.weights[f"{m}.weight"], self.rows, layer.forms[m]),
                layer.forms[m],
                spaced(layer.inputs_of(m), self.tokens),
            )
            for m in seam.behind
            if m in layer.forms
        ]
        peaks = np.max([column_peaks(matrix) for matrix, _, _ in matrices], axis=0)
        loudness = _above_zero(seam.most_of_columns(np.abs(inputs).mean(axis=0)))
        weights = _above_zero(seam.most_of_columns(peaks))
        best, least, unscaled = np.ones_like(loudness), float("inf"), 0.0
        for base in (loudness, np.float32(1) / weights):
            start = best
            for step in range(self.steps + 1):
                factors = _centred(start * np.power(base, np.float32(step / self.steps)))
                lost = sum(
                    output_error(matrix, form, read, seam.to_columns(factors))
                    for matrix, form, read in matrices
                )
                unscaled = unscaled or lost  # the first
                if lost < least:
                    best, least = factors, lost
        for module in seam.behind:
            layer.notes.setdefault(module, {})[LEFT] = least / unscaled if unscaled else 1.0
        return best


def output_error(matrix: Floats, form: Form, inputs: Floats, columns: Floats) -> float:
    """Return the squared error of inputs [tokens, k] times a matrix [rows, k] that is rounded with
    its columns multiplied by `columns` [k], which the inputs are divided by."""
    coded = dequantise_rows(quantise_rows(matrix * columns, form)) / columns
    return float(np.square(inputs @ (coded - matrix).T).sum(dtype=np.float64))


def spaced(rows: Floats, most: int, form: Form | None = None) -> Floats:
    """Return at most so many rows, evenly spaced; all of them if they share scales."""
    if len(rows) <= most or (form is not None and form.block_rows != 1):
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.intp)]


def _above_zero(magnitudes: Floats) -> Floats:
    floor = max(_QUIETEST * float(magnitudes.max()), float(np.finfo(np.float32).tiny))
    kept: Floats = np.maximum(magnitudes, np.float32(floor))
    return kept


def _centred(factors: Floats) -> Floats:
    """Return factors whose largest and smallest are as far from 1."""
    middle: np.float32 = np.sqrt(factors.max()) * np.sqrt(factors.min())
    return factors / middle

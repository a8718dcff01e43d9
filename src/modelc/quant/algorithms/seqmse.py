"""Sequential MSE: scales that lose least of a layer's outputs, layer after layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form
from modelc.quant.algorithms.hessian import moments_of
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.search import SHRINKS, Loss, search


@dataclass(frozen=True)
class SequentialMse(Algorithm):
    """As AIMET's sequential MSE: of `candidates` scales of each channel (or block) the one whose
    weights, rounded to nearest, give the outputs of least squared error, on inputs that have come
    through the layers quantised before. A block is judged by its own part of the outputs.

    Attributes:
        candidates: scales tried; each costs one product [rows, n] x [n, n], blocks less.
    """

    name: ClassVar[str] = "seqmse"
    needs_inputs: ClassVar[bool] = True

    candidates: int = 20

    def check(self, config: DecoderConfig) -> None:
        del config
        if self.candidates < 1:
            raise BadInput("seqmse needs at least one candidate", hint="20 is the default")

    def apply(self, layer: Layer) -> None:
        for module, weights, form, moments in moments_of(layer):
            layer.coded[module] = self.round(weights, form, moments)

    def round(self, weights: Floats, form: Form, moments: Floats) -> CodedRows:
        """Return weights [rows, n] as codes, for the second moments of the inputs."""
        shrinks = np.linspace(SHRINKS[0], SHRINKS[-1], self.candidates).tolist()
        grid = search(weights, form, output_loss(moments, form.block), shrinks)
        return grid.coded(grid.to_levels(weights))


def output_loss(moments: Floats, block: int) -> Loss:
    """Return a loss: the squared error of the outputs that a block alone makes."""
    columns = len(moments)

    def loss(errors: Floats) -> Floats:
        parts = []
        for first in range(0, columns, block or columns):
            here = slice(first, first + (block or columns))
            product = errors[:, here] @ moments[here, here]
            parts.append(np.einsum("rk,rk->r", product, errors[:, here]))
        return np.stack(parts, axis=1)

    return loss

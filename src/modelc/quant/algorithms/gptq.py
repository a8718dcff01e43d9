"""GPTQ: columns are rounded in turn, and those not yet rounded make up for the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput, Where
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form
from modelc.quant.algorithms.feedback import descend, round_with_feedback
from modelc.quant.algorithms.hessian import damped, moments_of
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.refit import refit
from modelc.quant.algorithms.search import search, weighted_loss


@dataclass(frozen=True)
class Gptq(Algorithm):
    """Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers"; scales of blocks are chosen beforehand (its static groups).

    Added to it: levels and scales are improved in turn, `refinements` times, scales by least
    squares, levels by coordinate descent (Behdin et al. 2023, QuantEase).

    Attributes:
        damping: part of the mean of H's diagonal that is added to it.
        act_order: columns in order of falling mean square of their inputs.
        refinements: rounds of descent and least squares.
    """

    name: ClassVar[str] = "gptq"
    needs_inputs: ClassVar[bool] = True

    damping: float = 0.1
    act_order: bool = True
    refinements: int = 2

    def check(self, config: DecoderConfig) -> None:
        del config
        if not self.damping > 0 or self.refinements < 0:
            raise BadInput("gptq's damping is not above 0, or its refinements are below")

    def apply(self, layer: Layer) -> None:
        for module, weights, form, moments in moments_of(layer):
            try:
                layer.coded[module] = self.round(weights, form, damped(moments, self.damping))
            except np.linalg.LinAlgError as error:
                raise BadInput(
                    "the second moments of the inputs have no Cholesky decomposition",
                    where=Where(module=module),
                    hint="give a larger gptq.damping",
                ) from error

    def round(self, weights: Floats, form: Form, moments: Floats) -> CodedRows:
        """Return weights [rows, n] as codes, for the damped second moments of the inputs.

        Raises:
            LinAlgError: the moments are not definite.
        """
        diagonal = np.diagonal(moments).copy()
        order = np.argsort(-diagonal, kind="stable") if self.act_order else np.arange(len(diagonal))
        grid = search(weights, form, weighted_loss(diagonal, form.block))
        levels = round_with_feedback(weights, moments, grid, order)
        for _ in range(self.refinements):
            grid = refit(weights, moments, grid, levels)
            levels = descend(weights, moments, grid, levels, order)
        if self.refinements:
            grid = refit(weights, moments, grid, levels)
        return grid.coded(levels)

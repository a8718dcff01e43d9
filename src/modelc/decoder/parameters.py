"""How many numbers a model is made of, and how many of them a token meets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from modelc.decoder.config import DecoderModel
from modelc.ir.stored import tensor_shape


@dataclass(frozen=True)
class Parameters:
    """Attributes:
    total: all of them.
    active: without the experts that a token does not go to.
    """

    total: int
    active: int


def count_parameters(model: DecoderModel) -> Parameters:
    """Count a model's weights; none is read."""
    total = sum(math.prod(tensor_shape(matrix)) for matrix in model.weights.values())
    experts = model.config.experts
    if experts is None:
        return Parameters(total, total)
    each = 3 * model.config.hidden_size * experts.hidden
    idle = len(experts.layers) * (experts.count - experts.used) * each
    return Parameters(total, total - idle)

"""All algorithms, in the order in which they are applied, by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

_HERE: Final = "modelc.quant.algorithms"

Stage = Literal["transform", "rounding", "correction"]


@dataclass(frozen=True)
class Row:
    """One algorithm: where it is, and what it does.

    Attributes:
        stage: `transform` gives equivalent float weights, `rounding` codes (a recipe has at most
            one), `correction` makes up for what rounding lost.
    """

    dotted: str
    stage: Stage
    about: str


ALGORITHMS: Final[Mapping[str, Row]] = {
    "rotate": Row(
        f"{_HERE}.rotate:Rotate", "transform", "Hadamard rotations folded into weights (QuaRot)"
    ),
    "smooth": Row(
        f"{_HERE}.smooth:Smooth", "transform", "outliers moved from inputs to weights (SmoothQuant)"
    ),
    "awq": Row(f"{_HERE}.awq:Awq", "transform", "scaling searched for by the outputs' error (AWQ)"),
    "equalise": Row(
        f"{_HERE}.equalise:Equalise", "transform", "ranges of channels made equal across layers"
    ),
    "nearest": Row(
        f"{_HERE}.nearest:Nearest", "rounding", "round to nearest, over the whole range"
    ),
    "mse": Row(f"{_HERE}.mse:Mse", "rounding", "round to nearest, scales of least squared error"),
    "weighted_mse": Row(
        f"{_HERE}.weighted_mse:WeightedMse",
        "rounding",
        "the same, weights weighed by what they are multiplied with",
    ),
    "seqmse": Row(
        f"{_HERE}.seqmse:SequentialMse", "rounding", "scales of least error in the outputs"
    ),
    "gptq": Row(f"{_HERE}.gptq:Gptq", "rounding", "each column makes up for those before (GPTQ)"),
    "adaround": Row(f"{_HERE}.adaround:AdaRound", "rounding", "rounding up or down is learned"),
    "bias_correction": Row(
        f"{_HERE}.bias_correction:BiasCorrection", "correction", "the mean error goes into biases"
    ),
}

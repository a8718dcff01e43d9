"""Hadamard rotations folded into the weights: QuaRot's of the residual stream and of the values.

The residual stream x becomes x Q for an orthogonal Q. RMS norms don't notice, once what they
multiply by is in the matrices behind them; what writes into the stream is turned by Q, what reads
it turned back. So is each head's output between v_proj and o_proj. Outliers of single channels, of
weights as of activations, spread over all.

Sources: QuaRot (Ashkboos et al. 2024, arXiv 2404.00456); SpinQuant (Liu et al. 2024, arXiv
2405.16406), whose R1 and R2 these are, as Hadamard matrices, not trained ones. R3 and R4, behind
the rotary embedding and before down_proj, would have to be computed while the model runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from modelc.decoder.architectures import ARCHITECTURES
from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput
from modelc.quant.algorithms.hadamard import Rotation, random_rotation
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.seams import feed_forwards, norm_seams

HADAMARD: Final = "hadamard"
"""In the notes of what reads the residual stream: 1, or 0 where no Hadamard matrix of its size is
known here and another orthogonal one was taken."""


@dataclass(frozen=True)
class Rotate(Algorithm):
    """Rotate the residual stream (R1), and the values of every head (R2).

    Attributes:
        seed: of the signs.
        stream, values: R1 and R2.
    """

    name: ClassVar[str] = "rotate"
    whole_model: ClassVar[bool] = True

    seed: int = 0
    stream: bool = True
    values: bool = True

    def check(self, config: DecoderConfig) -> None:
        if self.stream and ARCHITECTURES[config.architecture].post_norms:
            raise BadInput(
                f"the residual stream of {config.architecture} can't be rotated: a norm multiplies "
                "channels between each linear layer and the stream",
                hint="leave rotate out, or rotate the values only",
            )

    def apply(self, layer: Layer) -> None:
        if self.stream:
            _fold_norms(layer)
            _turn_stream(layer, random_rotation(layer.config.hidden_size, self.seed))
        if self.values and layer.is_decoder_layer:
            _turn_values(layer, random_rotation(layer.config.head_dim, self.seed))
        layer.inputs = {}  # what was seen is of another basis


def _fold_norms(layer: Layer) -> None:
    """Put what norms multiply by into the matrices behind them."""
    weights = layer.weights
    for seam in norm_seams(layer):
        scale = seam.rows(layer)
        for module in seam.behind:
            weights[f"{module}.weight"] = weights[f"{module}.weight"] * scale
        weights[f"{seam.before}.weight"] = np.ones_like(scale)


def _turn_stream(layer: Layer, rotation: Rotation) -> None:
    weights = layer.weights
    table = f"{layer.name}.weight"
    if layer.name == "model.embed_tokens":
        weights[table] = rotation.rotate(weights[table])
    for seam in norm_seams(layer):
        for module in seam.behind:
            weights[f"{module}.weight"] = rotation.rotate(weights[f"{module}.weight"])
            layer.notes.setdefault(module, {})[HADAMARD] = float(rotation.hadamard)
    if layer.is_decoder_layer:
        downs = (f"{module}.down_proj" for module in feed_forwards(layer))
        for module in (layer.path("self_attn.o_proj"), *downs):
            _turn_outputs(weights, module, rotation)


def _turn_outputs(weights: dict[str, Floats], module: str, rotation: Rotation) -> None:
    matrix = weights[f"{module}.weight"]
    weights[f"{module}.weight"] = np.ascontiguousarray(rotation.rotate(matrix.T).T)
    if f"{module}.bias" in weights:
        weights[f"{module}.bias"] = rotation.rotate(weights[f"{module}.bias"])


def _turn_values(layer: Layer, rotation: Rotation) -> None:
    """Turn each head's rows of v_proj, and the columns of o_proj of each head that reads it."""
    weights, width = layer.weights, layer.config.head_dim
    values, out = layer.path("self_attn.v_proj"), layer.path("self_attn.o_proj")
    matrix = weights[f"{values}.weight"]
    heads = matrix.reshape(-1, width, matrix.shape[1]).swapaxes(1, 2)
    weights[f"{values}.weight"] = rotation.rotate(heads).swapaxes(1, 2).reshape(matrix.shape)
    if f"{values}.bias" in weights:
        bias = weights[f"{values}.bias"]
        weights[f"{values}.bias"] = rotation.rotate(bias.reshape(-1, width)).reshape(-1)
    matrix = weights[f"{out}.weight"]
    weights[f"{out}.weight"] = rotation.rotate(matrix.reshape(-1, width)).reshape(matrix.shape)

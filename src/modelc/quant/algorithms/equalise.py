"""Cross-layer equalisation: neighbouring linear layers get the same range in every channel.

With r1_i the range of the weights that make channel i and r2_i that of the weights that read it,
the channel is divided by s_i = sqrt(r1_i / r2_i), after which both ranges are sqrt(r1_i r2_i).
Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv 1906.04721), equation 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.seams import column_peaks, linear_seams, move_factors


@dataclass(frozen=True)
class Equalise(Algorithm):
    """Equalise v_proj with o_proj, and up_proj with down_proj. `equalise_graph` does the same in
    any graph."""

    name: ClassVar[str] = "equalise"

    def apply(self, layer: Layer) -> None:
        for seam in linear_seams(layer):
            made = column_peaks(seam.rows(layer).T)
            (reader,) = seam.behind
            read = seam.most_of_columns(column_peaks(layer.weights[f"{reader}.weight"]))
            move_factors(layer, seam, equalising_factors(made, read))


def equalising_factors(made: Floats, read: Floats) -> Floats:
    """Return what to divide each channel by, float32 [channels].

    Args:
        made, read: largest magnitude of the weights that make a channel, and of those that read it;
            where one is zero the factor is 1.
    """
    silent = (made == 0) | (read == 0)
    ratio = np.where(silent, 1, made) / np.where(silent, 1, read)
    return np.sqrt(np.where(silent, 1, ratio)).astype(np.float32)

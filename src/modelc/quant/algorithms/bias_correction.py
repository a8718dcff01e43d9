"""Bias correction: the mean error of a module's outputs goes into its bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.quant.algorithms.layer import Algorithm, Layer

SHIFT: Final = "mean output error"


@dataclass(frozen=True)
class BiasCorrection(Algorithm):
    """Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
    section 4.2, with the means of the samples: the bias gets E[(W - Wq) x].

    Comes after a rounding. A module without a bias stays as it is; the root mean square of what it
    would have got is in the layer's notes, next to those of the modules that got theirs.
    """

    name: ClassVar[str] = "bias_correction"
    needs_inputs: ClassVar[bool] = True

    def apply(self, layer: Layer) -> None:
        for module, coded in layer.coded.items():
            if module not in layer.reads or not len(layer.inputs_of(module)):
                continue
            errors = layer.weights[f"{module}.weight"] - dequantise_rows(coded)
            mean = layer.inputs_of(module).mean(0, dtype=np.float64).astype(np.float32)
            shift = errors @ mean
            bias = layer.weights.get(f"{module}.bias")
            if bias is not None:
                layer.weights[f"{module}.bias"] = bias + shift
            notes = layer.notes.setdefault(module, {})
            notes[SHIFT] = float(np.sqrt(np.mean(np.square(shift))))
            notes["corrected"] = float(bias is not None)

"""Tensors that 8 bits are too few for, told from what calibration saw of them.

A few outliers, as in the residual stream of transformers, stretch a range until most values share
a handful of codes. The usual ratio of signal to noise does not show it, as the outliers are most of
the signal. So the noise of 8 bits is held against the variance of the middle of the values alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.network_encodings import ActivationType, Precision
from modelc.quant.network.calibrate import NetworkStatistics
from modelc.quant.network.cuts import cut_of
from modelc.quant.statistics import TensorStatistics

MIDDLE: Final = 0.99
"""The share of a tensor's values that counts."""

_WIDER: Final[Mapping[ActivationType, ActivationType]] = {"uint8": "uint16", "int8": "int16"}


def middle_db(seen: TensorStatistics) -> float:
    """Return the ratio in dB of the variance of the middle values to the noise of 8 bits over the
    whole range; infinite for a constant."""
    step = (seen.high - seen.low) / 255
    counts, centres = seen.histogram.counts, seen.histogram.centres
    share = counts.cumsum() / counts.sum()
    first = int(np.searchsorted(share, (1 - MIDDLE) / 2))
    last = min(int(np.searchsorted(share, (1 + MIDDLE) / 2)), counts.size - 1) + 1
    weights, values = counts[first:last], centres[first:last]
    mean = np.average(values, weights=weights)
    variance = float(np.average(np.square(values - mean), weights=weights))
    if step == 0 or variance == 0:
        return math.inf
    return 10 * math.log10(variance * 12 / step**2)


def widen_sensitive(
    model: ir.Model,
    nodes: Mapping[str, Precision],
    seen: NetworkStatistics,
    least_db: float,
) -> dict[str, Precision]:
    """Return the nodes that should have 16 bits instead of 8, with their new precisions; with a
    Softmax also what makes its scores: of 8-bit ones HTP's Softmax has 8 dB.

    Args:
        nodes: those that may be changed, by name.
        least_db: what the middle of each of their results must have in 8 bits.
    """
    widened: dict[str, Precision] = {}
    for node in model.graph:
        results = (seen.tensors.get(str((cut_of(v) or v).name)) for v in node.outputs)
        if any(result is not None and middle_db(result) < least_db for result in results):
            _widen(node, nodes, widened)
    for node in model.graph:
        if node.op_type == "Softmax" and str(node.name) in widened and node.inputs[0] is not None:
            _widen(node.inputs[0].producer(), nodes, widened)
    return widened


def wider(precision: Precision) -> Precision:
    """Return a precision of 8 bits with 16."""
    return replace(precision, activations=_WIDER[precision.activations])


def _widen(
    node: ir.Node | None, nodes: Mapping[str, Precision], widened: dict[str, Precision]
) -> None:
    precision = nodes.get(str(node.name)) if node is not None else None
    if node is not None and precision is not None and precision.activations in _WIDER:
        widened[str(node.name)] = wider(precision)

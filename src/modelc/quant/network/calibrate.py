"""From feeds to the statistics of every float tensor of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.network_encodings import is_float
from modelc.ir.provenance import module_of
from modelc.quant.statistics import HIDDEN, StatisticsGatherer, TensorStatistics
from modelc.reference.network import Feed, NetworkReference

Progress = Callable[[int, str], None]

SAMPLED: Final = 1 << 15
"""Values of a tensor of one feed that are counted, about: there are many feeds. Counting takes
longer than inference; extremes are of all values."""

WHOLLY_HIDDEN: Final = 1000.0
"""A row of scores whose largest is so far below the tensor's largest is one that a mask hides
wholly: nobody reads what softmax makes of it."""


@dataclass(frozen=True, eq=False)
class NetworkStatistics:
    """What was seen of a network's float tensors.

    Attributes:
        tensors: by name, graph inputs and node outputs.
        peaks: of what Softmax reads: the smallest of the largest values of its rows. What lies far
            below vanishes, so it needs no codes.
        hidden: tensors that hold float32's smallest, or infinite values.
        feeds: how many were seen.
    """

    tensors: Mapping[str, TensorStatistics]
    peaks: Mapping[str, float]
    hidden: frozenset[str]
    feeds: int


def gather_network_statistics(
    model: ir.Model,
    feeds: Iterable[Feed],
    progress: Progress = lambda done, message: None,
) -> NetworkStatistics:
    """Run the float graph on feeds, one in memory at a time, and keep the statistics of every
    float tensor.

    Args:
        progress: told after each feed how many were seen.

    Raises:
        BadInput: there are no feeds.
        ModelcError: the float model makes NaN, and where; or ONNX Runtime doesn't run it.
    """
    reference = NetworkReference(model)
    gatherer = _Gatherer(model)
    count = 0
    for count, feed in enumerate(feeds, 1):
        reference.observe(feed, gatherer.observe)
        progress(count, f"feed {count}")
    if not count:
        raise BadInput("there are no calibration feeds", hint="give at least one, better a hundred")
    return NetworkStatistics(
        dict(sorted(gatherer.statistics.tensors.items())),
        gatherer.peaks,
        frozenset(gatherer.hidden),
        count,
    )


class _Gatherer:
    def __init__(self, model: ir.Model) -> None:
        self.statistics = StatisticsGatherer(SAMPLED)
        self.peaks: dict[str, float] = {}
        self.hidden: set[str] = set()
        made = (value for node in model.graph for value in node.outputs)
        self._wanted = {str(v.name): v for v in (*model.graph.inputs, *made) if is_float(v)}
        self._softmax = {
            str(node.inputs[0].name): node.attributes.get_int("axis", -1)
            for node in model.graph
            if node.op_type == "Softmax" and node.inputs[0] is not None
        }

    def observe(self, name: str, values: np.ndarray) -> None:
        if name not in self._wanted or not values.size:
            return
        try:
            self.statistics.observe(name, values)
        except ModelcError as error:
            raise ModelcError(
                f"the float model makes NaN in {name}",
                where=Where(step="calibrate", module=_module(self._wanted[name])),
                hint="look at the calibration data and the weights in front of it",
            ) from error
        if float(values.min()) <= HIDDEN or float(values.max()) == np.inf:
            self.hidden.add(name)
        if name in self._softmax:
            peak = _smallest_peak(values, self._softmax[name])
            self.peaks[name] = min(peak, self.peaks.get(name, peak))


def _smallest_peak(scores: np.ndarray, axis: int) -> float:
    peaks = scores.max(axis=axis)
    shown = peaks[(peaks > HIDDEN) & (peaks >= peaks.max() - WHOLLY_HIDDEN)]
    return float(shown.min()) if shown.size else 0.0


def _module(value: ir.Value) -> str:
    node = value.producer()
    return module_of(node) if node is not None else str(value.name)

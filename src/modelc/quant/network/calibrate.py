"""From feeds to the statistics of every float tensor of a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.network_encodings import is_float
from modelc.ir.provenance import module_of
from modelc.process import usable_cores
from modelc.quant.statistics import HIDDEN, TensorStatistics
from modelc.reference.network import SEGMENT_BYTES, Feed, NetworkReference

Progress = Callable[[int, str], None]

AT_ONCE: Final = 4
"""Feeds that are run at the same time, at most."""

SAMPLED: Final = 1 << 13
"""Values of a tensor of one feed that are counted, about: there are many feeds. Counting takes
longer than inference; extremes are of all values."""

TOGETHER: Final = 32
"""Feeds whose statistics are merged at once, which costs little more than merging two."""

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
    """Run the float graph on feeds, one for each core in memory at a time (`AT_ONCE`), and keep the
    statistics of every float tensor. Feeds count in their order, whichever is done first.

    Args:
        progress: told after each feed how many were seen.

    Raises:
        BadInput: there are no feeds.
        ModelcError: the float model makes NaN, and where; or ONNX Runtime doesn't run it.
    """
    threads = min(AT_ONCE, usable_cores())
    # One feed to a thread: the cores share the counting as well, which has no threads of its own.
    reference = NetworkReference(model, usable_cores() // threads, SEGMENT_BYTES // threads)
    wanted = _Wanted(model)
    gathered, waiting, count = _Seen(), list[_Seen](), 0
    with ThreadPoolExecutor(threads) as pool:
        for count, seen in enumerate(_in_turn(pool, threads, reference, wanted, feeds), 1):
            waiting.append(seen)
            if len(waiting) == TOGETHER:
                gathered.merge(waiting)
                waiting = []
            progress(count, f"feed {count}")
        gathered.merge(waiting)
    if not count:
        raise BadInput("there are no calibration feeds", hint="give at least one, better a hundred")
    return NetworkStatistics(
        dict(sorted(gathered.tensors.items())), gathered.peaks, frozenset(gathered.hidden), count
    )


def _in_turn(
    pool: ThreadPoolExecutor,
    threads: int,
    reference: NetworkReference,
    wanted: _Wanted,
    feeds: Iterable[Feed],
) -> Iterator[_Seen]:
    """Yield what is seen of each feed, in their order, while the next ones are being run."""

    def look(feed: Feed) -> _Seen:
        seen = _Seen()
        reference.observe(feed, lambda name, values: wanted.observe(name, values, seen))
        return seen

    running: deque[Future[_Seen]] = deque()
    for feed in feeds:
        running.append(pool.submit(look, feed))
        if len(running) > threads:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


@dataclass
class _Seen:
    """`NetworkStatistics` being gathered."""

    tensors: dict[str, TensorStatistics] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)

    def merge(self, later: Sequence[_Seen]) -> None:
        found: dict[str, list[TensorStatistics]] = {n: [t] for n, t in self.tensors.items()}
        for seen in later:
            for name, tensor in seen.tensors.items():
                found.setdefault(name, []).append(tensor)
            for name, peak in seen.peaks.items():
                self.peaks[name] = min(peak, self.peaks.get(name, peak))
            self.hidden |= seen.hidden
        self.tensors = {name: rows[0].merged(*rows[1:]) for name, rows in found.items()}


class _Wanted:
    """The tensors of a graph that are looked at."""

    def __init__(self, model: ir.Model) -> None:
        made = (value for node in model.graph for value in node.outputs)
        self._values = {str(v.name): v for v in (*model.graph.inputs, *made) if is_float(v)}
        self._softmax = {
            str(node.inputs[0].name): node.attributes.get_int("axis", -1)
            for node in model.graph
            if node.op_type == "Softmax" and node.inputs[0] is not None
        }

    def observe(self, name: str, values: np.ndarray, seen: _Seen) -> None:
        if name not in self._values or not values.size:
            return
        low, high = float(values.min()), float(values.max())
        try:
            seen.tensors[name] = TensorStatistics.of(values, SAMPLED, (low, high))
        except ModelcError as error:
            raise ModelcError(
                f"the float model makes NaN in {name}",
                where=Where(step="calibrate", module=_module(self._values[name])),
                hint="look at the calibration data and the weights in front of it",
            ) from error
        if low <= HIDDEN or high == np.inf:
            seen.hidden.add(name)
        if name in self._softmax:
            seen.peaks[name] = _smallest_peak(values, self._softmax[name])


def _smallest_peak(scores: np.ndarray, axis: int) -> float:
    peaks = scores.max(axis=axis)
    shown = peaks[(peaks > HIDDEN) & (peaks >= peaks.max() - WHOLLY_HIDDEN)]
    return float(shown.min()) if shown.size else 0.0


def _module(value: ir.Value) -> str:
    node = value.producer()
    return module_of(node) if node is not None else str(value.name)

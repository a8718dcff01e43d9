"""From calibration sequences to statistics of activations, ranges and encodings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import ModelcError, Where
from modelc.ir.encodings import Encoding, IntegerType, from_range, symmetric
from modelc.quant.observers import Grid, Observer
from modelc.quant.observers.min_max import MinMax
from modelc.quant.ranges import Range
from modelc.quant.statistics import StatisticsGatherer, TensorStatistics
from modelc.reference.checkpoint import Checkpoint
from modelc.reference.stream import StreamedReference

Ranges = Mapping[str, Range]
Progress = Callable[[float, str], None]

CACHE: Final = r"present\.\d+\.(key|value)"
TURNS: Final = r"rope\.(cos|sin)\.new"
PLAIN: Final = Grid(65535)
MIN_MAX: Final = MinMax()

MASK: Final = Encoding(float(np.float32(100 / 65535)), 65535, "uint16")
"""From -100, which hides, to exactly 0: a runtime writes the codes 0 and 65535."""

HEADROOM: Final = 1.25
"""How much wider than seen 16-bit ranges are made: other text goes further than the calibration's,
and clipping one outlier costs more than the third of a bit that this does. An end at which the
observer clips stays where it put it."""

HIDDEN_BELOW: Final = 20.0
"""How far below the smallest score a hidden one must stay: e^-20 of 4096 positions is 1e-5 of a
probability, less than the 1.5e-5 that one step of its encoding is."""


def gather_statistics(
    model: ir.Model,
    token_batches: Sequence[Sequence[int]],
    progress: Progress = lambda fraction, message: None,
    partial: Path | None = None,
) -> dict[str, TensorStatistics]:
    """Run the expanded graph on sequences of tokens and return every float tensor's statistics.

    One layer's weights are in memory at a time, and of a tensor what `TensorStatistics` keeps.

    Args:
        progress: told the fraction of tensors seen and the tensor's name.
        partial: a folder where it is kept, after each layer, how far it came; a run on the same
            graph and sequences goes on from there, and gives the same.

    Raises:
        ModelcError: the float model makes NaN.
        BadInput: a weight holds NaN or infinite values, or a token is not in the vocabulary.
    """
    gatherer = StatisticsGatherer()
    names = {
        value.name
        for node in model.graph
        for value in node.outputs
        if value.dtype == ir.DataType.FLOAT
    }
    total = len(names) * len(token_batches)

    def observe(name: str, values: np.ndarray) -> None:
        gatherer.observe(name, values)
        progress(min(gatherer.seen / total, 1.0), name)

    checkpoint = Checkpoint(partial, gatherer) if partial else None
    StreamedReference(model).observe(token_batches, observe, checkpoint)
    return dict(sorted(gatherer.tensors.items()))


def choose_ranges(
    statistics: Mapping[str, TensorStatistics],
    observer: Observer = MIN_MAX,
    kv: IntegerType = "uint8",
) -> dict[str, Range]:
    """Return the range of every tensor, chosen for the codes that `activation_encodings` gives it:
    16 bits, and `kv`, symmetric, for the cache. Tables of angles are known, and never clipped."""
    limits = np.iinfo(kv)
    cache = Grid(int(limits.max) - int(limits.min) - 1, symmetric=True)
    ranges = {}
    for name, seen in statistics.items():
        chooser = MIN_MAX if re.fullmatch(TURNS, name) else observer
        ranges[name] = chooser.choose(seen, cache if re.fullmatch(CACHE, name) else PLAIN)
    return ranges


def gather_ranges(
    model: ir.Model,
    token_batches: Sequence[Sequence[int]],
    progress: Progress = lambda fraction, message: None,
) -> dict[str, Range]:
    """Return every float tensor's range from its smallest to its largest value; as
    `gather_statistics`."""
    return choose_ranges(gather_statistics(model, token_batches, progress))


def activation_encodings(ranges: Ranges, kv: IntegerType = "uint8") -> dict[str, Encoding]:
    """Return the encoding of every tensor of the expanded graph, by the first rule that fits: 16
    bits, and `kv` for the cache. The same for every AR-n and every part of the model.
    """
    encodings = {}
    for name in sorted(ranges):
        rule = next(rule for rule in RULES if re.fullmatch(rule.pattern, name))
        encodings[name] = rule.encoding(name, ranges, kv)
    return encodings


@dataclass(frozen=True)
class Rule:
    """How tensors whose full name fits `pattern` are encoded."""

    pattern: str
    encoding: Callable[[str, Ranges, IntegerType], Encoding]


def _cache(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    """Around 0, and no wider than seen: 8 bits have no room to spare, and HTP takes no more of 16.
    Calibration starts without a past, so these are the new ones."""
    return symmetric(ranges[name].limit, kv)


def _rotary_table(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    """cos and sin share one encoding of [-limit, limit), limit being the attention factor."""
    limit = max(ranges[name.replace("sin", "cos")].limit, ranges[name].limit)
    return Encoding(float(np.float32(limit / 32768)), 32768, "uint16")


def _mask(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    return MASK


def _masked_scores(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    """The scores' own range, and below it just enough room for hidden ones to vanish."""
    module = name.removesuffix("masked")
    for scores in ("capped", "scaled"):
        if found := ranges.get(module + scores):
            wide = found.widened(HEADROOM)
            return from_range(wide.low - HIDDEN_BELOW, wide.high, "uint16")
    raise ModelcError("masked scores without scores", where=Where(module=name))


def _probabilities(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    return Encoding(float(np.float32(1 / 65535)), 0, "uint16")


def _plain(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    wide = ranges[name].widened(HEADROOM)
    return from_range(wide.low, wide.high, "uint16")


RULES: Final = (
    Rule(CACHE, _cache),
    Rule(TURNS, _rotary_table),
    Rule(r"mask\..*", _mask),
    Rule(r".*\.masked", _masked_scores),
    Rule(r".*\.probabilities", _probabilities),
    Rule(r".*", _plain),
)

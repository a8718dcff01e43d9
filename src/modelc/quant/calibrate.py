"""Ranges of activations from a calibration text, and the encodings that follow from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.encodings import Encoding, IntegerType, from_range, symmetric
from modelc.quant.ranges import MinMaxObserver, Range
from modelc.reference.stream import StreamedReference

Ranges = Mapping[str, Range]

MASK: Final = Encoding(float(np.float32(100 / 65535)), 65535, "uint16")
"""From -100, which hides, to exactly 0: a runtime writes the codes 0 and 65535."""

HEADROOM: Final = 1.25
"""How much wider than seen 16-bit ranges are made: other text goes further than the calibration's,
and clipping one outlier costs more than the third of a bit that this does."""

HIDDEN_BELOW: Final = 20.0
"""How far below the smallest score a hidden one must stay: e^-20 of 4096 positions is 1e-5 of a
probability, less than the 1.5e-5 that one step of its encoding is."""


def cut_batches(
    token_ids: Sequence[int], samples: int, sequence_length: int, first: int | None = None
) -> list[list[int]]:
    """Cut `samples` sequences out of a text, evenly spread over it.

    Args:
        first: a token to begin every sequence with (beginning of text), within its length.

    Raises:
        BadInput: the text is shorter than one sequence.
    """
    start = [] if first is None else [first]
    length = sequence_length - len(start)
    room = len(token_ids) - length
    if length < 1 or room < 0:
        raise BadInput(
            f"a calibration text of {len(token_ids)} tokens has no sequence of {sequence_length}",
            hint="give a longer text or shorter sequences",
        )
    count = min(samples, room // length + 1)  # more would only overlap
    offsets = [room * index // max(count - 1, 1) for index in range(count)]
    return [[*start, *token_ids[offset : offset + length]] for offset in offsets]


def gather_ranges(
    model: ir.Model,
    token_batches: Sequence[Sequence[int]],
    progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> dict[str, Range]:
    """Run the expanded graph on sequences of tokens and return every float tensor's range.

    One layer's weights are in memory at a time. `progress` is told the fraction of tensors seen
    and the tensor's name.

    Raises:
        ModelcError: the float model makes NaN.
    """
    observer = MinMaxObserver()
    names = {
        value.name
        for node in model.graph
        for value in node.outputs
        if value.dtype == ir.DataType.FLOAT
    }
    total, seen = len(names) * len(token_batches), 0

    def observe(name: str, values: np.ndarray) -> None:
        nonlocal seen
        seen += 1
        observer.observe(name, values)
        progress(min(seen / total, 1.0), name)

    StreamedReference(model).observe(token_batches, observe)
    return observer.ranges()


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
            low, high = found.low * HEADROOM - HIDDEN_BELOW, found.high * HEADROOM
            return from_range(low, high, "uint16")
    raise ModelcError("masked scores without scores", where=Where(module=name))


def _probabilities(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    return Encoding(float(np.float32(1 / 65535)), 0, "uint16")


def _plain(name: str, ranges: Ranges, kv: IntegerType) -> Encoding:
    seen = ranges[name]
    return from_range(seen.low * HEADROOM, seen.high * HEADROOM, "uint16")


RULES: Final = (
    Rule(r"present\.\d+\.(key|value)", _cache),
    Rule(r"rope\.(cos|sin)\.new", _rotary_table),
    Rule(r"mask\..*", _mask),
    Rule(r".*\.masked", _masked_scores),
    Rule(r".*\.probabilities", _probabilities),
    Rule(r".*", _plain),
)

"""Which encoding every value of a network gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.errors import BadInput, ModelcError, Where
from modelc.ir.encodings import Encoding, IntegerType, from_range, symmetric
from modelc.ir.network_encodings import (
    BITS,
    NetworkEncodings,
    Precision,
    is_float,
    key,
)
from modelc.ir.operands import data_inputs, type_of_operand
from modelc.ir.provenance import module_of
from modelc.quant.network.calibrate import NetworkStatistics
from modelc.quant.network.cuts import cut_of
from modelc.quant.network.floors import floors_of
from modelc.quant.network.known_ranges import known_encoding, softmax_range, spanned
from modelc.quant.network.moves import moved_by
from modelc.quant.network.types import resolve_types
from modelc.quant.observers import Grid, Observer
from modelc.quant.observers.min_max import MinMax
from modelc.quant.ranges import Range
from modelc.quant.statistics import HIDDEN

HEADROOM: Final = 1.25
"""How much wider than seen 16-bit ranges are made: other inputs go further than the samples."""

ROOM: Final[Mapping[int, float]] = {8: 10.0, 16: 20.0}
"""How far below the largest score of a row codes of so many bits reach in front of Softmax."""

MIN_MAX: Final = MinMax()


def choose_encodings(
    model: ir.Model,
    seen: NetworkStatistics,
    nodes: Mapping[str, Precision],
    observer: Observer = MIN_MAX,
    scales: Mapping[str, tuple[float, ...]] | None = None,
) -> NetworkEncodings:
    """Return the encodings of all values that quantised nodes read or make.

    By the first rule that fits, a value's range is: known from the operator; that behind the Relu
    or Clip which alone reads it; as far as Softmax went; as far down as Softmax needs it; or what
    `observer` makes of what was seen; no narrower than its operator bears. Values that are only
    moved, joined or selected from share one encoding.

    Args:
        nodes: node name -> what is wanted of it, as `precisions` gives it.
        scales: of weights, as `NetworkEncodings` has them.

    Raises:
        ModelcError: a tensor was not seen.
        BadInput: a constant holds NaN.
    """
    types, resolved = resolve_types(model.graph, nodes)
    chooser = _Chooser(model.graph, seen, types, resolved, observer)
    return NetworkEncodings(chooser.all(), resolved, dict(scales or {}))


@dataclass(frozen=True)
class _Slot:
    """A value in one integer type."""

    value: ir.Value
    dtype: IntegerType


class _Chooser:
    def __init__(
        self,
        graph: ir.Graph,
        seen: NetworkStatistics,
        types: Mapping[ir.Value, str],
        nodes: Mapping[str, Precision],
        observer: Observer,
    ) -> None:
        self._graph, self._seen, self._types, self._nodes = graph, seen, dict(types), nodes
        self._observer = observer
        self._floors = {bits: floors_of(graph, seen, room) for bits, room in ROOM.items()}
        self._together: dict[_Slot, list[_Slot]] = {}

    def all(self) -> dict[str, Encoding]:
        for value, dtype in self._types.items():
            if dtype != "float":
                self._add(_Slot(value, dtype))  # type: ignore[arg-type]
        for node in self._graph:
            precision = self._nodes.get(str(node.name))
            if precision is None or precision.activations == "float":
                continue
            for index, value in data_inputs(node):
                wanted = type_of_operand(node, index, precision)
                assert wanted != "float"
                self._types.setdefault(value, wanted)
                self._add(_Slot(value, wanted))
            self._join_moved(node, precision.activations)
        for slot in list(self._together):
            if behind := self._only_cut(slot):
                self._join(slot, behind)
        groups = {id(group): group for group in self._together.values()}
        found = {number: self._encoding(group) for number, group in groups.items()}
        return {
            key(slot.value, self._types[slot.value], slot.dtype): found[id(group)]
            for slot, group in self._together.items()
        }

    def _add(self, slot: _Slot) -> None:
        self._together.setdefault(slot, [slot])

    def _join_moved(self, node: ir.Node, dtype: IntegerType) -> None:
        moved = moved_by(node)
        made = [value for value in node.outputs if is_float(value)]
        for value in (*moved[1:], *made) if moved else ():
            self._join(_Slot(moved[0], dtype), _Slot(value, dtype))

    def _join(self, first: _Slot, second: _Slot) -> None:
        one, two = self._together[first], self._together[second]
        if one is not two:
            joined = one + two
            self._together.update(dict.fromkeys(joined, joined))

    def _encoding(self, group: list[_Slot]) -> Encoding:
        known = {self._known(slot) for slot in group if not moved_by_producer(slot.value)}
        if len(known) == 1 and (only := known.pop()):
            return only
        ranges = [self._range(slot) for slot in group]
        dtype = group[0].dtype
        makers = [slot.value.producer() for slot in group]
        found = spanned(
            Range(min(r.low for r in ranges), max(r.high for r in ranges)),
            [node.op_type for node in makers if node is not None],
            [node.op_type for slot in group for node in slot.value.consumers()],
            BITS[dtype],
        )
        low, high = found.low, found.high
        if dtype == "int16" or any(self._symmetric(slot) for slot in group):
            return symmetric(max(abs(low), abs(high)), dtype)
        return from_range(low, high, dtype)

    def _known(self, slot: _Slot) -> Encoding | None:
        node = slot.value.producer()
        return known_encoding(node.op_type, slot.dtype) if node is not None else None

    def _symmetric(self, slot: _Slot) -> bool:
        node = slot.value.producer()
        precision = self._nodes.get(str(node.name)) if node is not None else None
        return precision is not None and precision.symmetric

    def _range(self, slot: _Slot) -> Range:
        value, name, bits = slot.value, str(slot.value.name), BITS[slot.dtype]
        known = self._known(slot)
        if known:
            return Range(known.minimum, known.maximum)
        floor = self._floors[bits].get(value)
        if value.const_value is not None:
            return _constant_range(value, floor)
        behind = self._only_cut(slot)
        if behind is not None:
            return self._range(behind)
        found = self._seen.tensors.get(name)
        if found is None:
            raise ModelcError(
                f"nothing was seen of {name}",
                where=Where(step="encodings", module=_module(value)),
                hint="the statistics are of another graph",
            )
        made_by = value.producer()
        if made_by is not None and made_by.op_type == "Softmax":
            return softmax_range(found.high)
        steps = (1 << bits) - 1
        chosen = self._observer.choose(found, Grid(steps, self._symmetric(slot)))
        if bits > 8:
            chosen = _within_clip(value, chosen.widened(HEADROOM))
        if floor is not None and (chosen.low < floor or name in self._seen.hidden):
            return Range(floor, max(floor, chosen.high))
        return chosen

    def _only_cut(self, slot: _Slot) -> _Slot | None:
        """Return what the Relu or Clip makes that alone reads a value, in the same type."""
        made = cut_of(slot.value)
        return _Slot(made, slot.dtype) if made and self._types.get(made) == slot.dtype else None


def moved_by_producer(value: ir.Value) -> bool:
    """Whether a value is what a node made by moving others, which then say its range."""
    node = value.producer()
    return node is not None and bool(moved_by(node))


def _within_clip(value: ir.Value, wide: Range) -> Range:
    """Return a range cut to what a Clip lets through: with 16 bits HTP leaves a Clip behind a
    convolution to the codes' own ends."""
    node = value.producer()
    if node is None or node.op_type != "Clip":
        return wide
    low, high = wide.low, wide.high
    for place, is_low in ((1, True), (2, False)):
        bound = node.inputs[place] if len(node.inputs) > place else None
        tensor = ir.convenience.get_const_tensor(bound) if bound is not None else None
        if tensor is not None and tensor.size == 1:
            number = float(tensor.numpy().reshape(()))
            low, high = (max(low, number), high) if is_low else (low, min(high, number))
    return Range(low, max(low, high))


def _constant_range(value: ir.Value, floor: float | None) -> Range:
    assert value.const_value is not None
    numbers = value.const_value.numpy()
    if not numbers.size:
        return Range(0.0, 0.0)
    low, high = float(numbers.min()), float(numbers.max())
    if np.isnan(low):
        raise BadInput("a constant holds NaN", where=Where(module=str(value.name)))
    if low <= HIDDEN or high == np.inf:
        shown = numbers[(numbers > HIDDEN) & (numbers < np.inf)]
        low = float(shown.min()) if shown.size else 0.0
        high = float(shown.max()) if shown.size else 0.0
        return Range(low if floor is None else min(floor, low), high)
    return Range(low, high) if floor is None else Range(max(low, floor), max(high, floor))


def _module(value: ir.Value) -> str:
    node = value.producer()
    return module_of(node) if node is not None else str(value.name)

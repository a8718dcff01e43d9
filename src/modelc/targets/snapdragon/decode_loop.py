"""A decoder's graphs run token by token as Genie runs them: prefill in chunks, then AR-1.

Each call takes the shortest AR that reads what is left, or else the longest; and with it the
shortest context that leaves the call's tokens in slots for past ones (measured with Genie 1.21).
Tensors are those of `ir.genie`; the encodings come from the graphs' own metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from modelc.errors import BadInput
from modelc.ir import genie
from modelc.ir.arrays import Arrays
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.rotary import Rotary

MASKED: Final = -1000.0  # what Genie writes into a float mask

ANSWER_TOKENS: Final = 4
"""How many of the last tokens of a text are read as those of an answer where it is measured."""

_CACHE = re.compile(r"^past_(key|value)_\d+_in$")


@dataclass(frozen=True)
class Part:
    """One graph of one part of the model."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    run: Callable[[Arrays], Arrays]


class Decoder:
    """A KV cache and the graphs that fill it. `position` tokens have been read.

    Args:
        graphs: by (AR, context length) the graphs of all parts in order, each of which is called
            with the tensors that it names; every AR length at every context length.
    """

    def __init__(self, graphs: Mapping[tuple[int, int], Sequence[Part]], rotary: Rotary) -> None:
        self._graphs = graphs
        self._rotary = rotary
        self._cache: dict[str, np.ndarray] = {}
        self.ars = tuple(sorted({ar for ar, _ in graphs}))
        self.context_lengths = tuple(sorted({length for _, length in graphs}))
        self.position = 0

    @property
    def context_length(self) -> int:
        """How many tokens fit: the longest context."""
        return self.context_lengths[-1]

    def read(self, tokens: Sequence[int]) -> Iterator[np.ndarray]:
        """Read tokens and yield the logits after them, float32 [n, vocab] a chunk.

        Raises:
            BadInput: the context is full.
        """
        rest = list(tokens)
        while rest:
            call = self.next_call(rest)
            yield self._logits(call)
            rest = rest[len(call.tokens) :]

    def measure(self, tokens: Sequence[int]) -> Iterator[np.ndarray]:
        """As `read`, in the calls of `measured_calls`."""
        yield from map(self._logits, self.measured_calls(tokens))

    def fill(self, cache: Arrays, position: int) -> None:
        """Go on from `position` tokens whose keys and values, codes of the caches' inputs, are
        given."""
        self._cache = {}
        parts = next(iter(self._graphs.values()))
        for tensor in (tensor for part in parts for tensor in part.inputs):
            if tensor.name in cache:
                slots = self._slots(tensor)
                slots[_span(_position_axis(tensor.name), 0, position)] = cache[tensor.name]
        self.position = position

    def next_call(self, rest: Sequence[int]) -> Call:
        """Choose as Genie does; beyond where Genie stops, go on as long as a graph has room."""
        fitting = [ar for ar in self.ars if self.position + ar <= self.context_length]
        if not fitting:
            raise BadInput(
                f"the context of {self.context_length} tokens is full",
                hint="use a shorter prompt, or compile for a longer context",
            )
        ar = next((ar for ar in fitting if ar >= len(rest)), fitting[-1])
        filled = self.position + min(ar, len(rest))
        roomy = [length for length in self.context_lengths if filled <= length - ar]
        return Call(ar, roomy[0] if roomy else self.context_length, tuple(rest[:ar]))

    def measured_calls(self, tokens: Sequence[int]) -> Iterator[Call]:
        """Yield the calls in which a text is measured, each to be run before the next is asked for:
        a prompt as Genie reads it, and an answer token by token, in each context length in turn,
        since a short text would neither reach the longer ones nor the shortest AR.

        Raises:
            BadInput: the context is full.
        """
        single = len(tokens) - 1 + self.ars[0] <= self.context_length
        answer = min(ANSWER_TOKENS, len(tokens) // 2) if single else 0
        rest = list(tokens[: len(tokens) - answer])
        while rest:
            call = self.next_call(rest)
            yield call
            rest = rest[len(call.tokens) :]
        for index, token in enumerate(tokens[len(tokens) - answer :]):
            call = self.next_call([token])
            roomy = [n for n in self.context_lengths if n >= call.context_length]
            yield replace(call, context_length=roomy[index % len(roomy)])

    def run(self, call: Call, given: Arrays = MappingProxyType({})) -> dict[str, np.ndarray]:
        """Make one call of all parts, and return everything that they give.

        Args:
            given: what comes from parts before the first, by name.
        """
        count, parts = len(call.tokens), self._graphs[call.ar, call.context_length]
        values = dict(given)
        for part in parts:
            feed = {t.name: self._input(t, call, values) for t in part.inputs}
            values.update(part.run(feed))
        for name, slots in self._cache.items():
            new = values[name.removesuffix("_in") + "_out"]
            axis = _position_axis(name)
            slots[_span(axis, self.position, self.position + count)] = new[_span(axis, 0, count)]
        self.position += count
        return values

    def _logits(self, call: Call) -> np.ndarray:
        values, parts = self.run(call), self._graphs[call.ar, call.context_length]
        [logits] = [t for part in parts for t in part.outputs if t.name == genie.LOGITS]
        return dequantise(values[genie.LOGITS][0, : len(call.tokens)], logits)

    def _input(self, tensor: Tensor, call: Call, values: Arrays) -> np.ndarray:
        if tensor.name in values:  # from the part before
            return values[tensor.name]
        if tensor.name == genie.INPUT_IDS:
            ids = np.zeros(tensor.shape, tensor.dtype)
            ids[0, : len(call.tokens)] = call.tokens
            return ids
        if tensor.name == genie.MASK:
            return self._mask(tensor, call)
        if tensor.name in (genie.COS, genie.SIN):
            positions = np.arange(self.position, self.position + call.ar)
            table = self._rotary.tables(positions)[tensor.name == genie.SIN]
            return quantise(table.reshape(tensor.shape), tensor)
        if _CACHE.match(tensor.name):
            return self._past(tensor, call.past)
        raise BadInput(f"a graph has the input {tensor.name!r}, which Genie does not know")

    def _mask(self, tensor: Tensor, call: Call) -> np.ndarray:
        seen = np.zeros((call.ar, call.context_length), bool)
        count, past = len(call.tokens), call.past
        seen[:count, : self.position] = True
        seen[:count, past : past + count] = np.tri(count, dtype=bool)
        if tensor.scale:  # Genie knows only the ends: all ones is 0.0, zero is the minimum
            limits = np.iinfo(tensor.dtype)
            codes = np.where(seen, limits.max, limits.min)
            return codes.astype(tensor.dtype).reshape(tensor.shape)
        return np.where(seen, 0.0, MASKED).astype(tensor.dtype).reshape(tensor.shape)

    def _past(self, tensor: Tensor, past: int) -> np.ndarray:
        span = _span(_position_axis(tensor.name), 0, past)
        return np.ascontiguousarray(self._slots(tensor)[span])

    def _slots(self, tensor: Tensor) -> np.ndarray:
        """Return the cache that an input is a part of, empty at first."""
        if tensor.name not in self._cache:
            shape = list(tensor.shape)
            shape[_position_axis(tensor.name)] = self.context_length
            self._cache[tensor.name] = np.full(shape, tensor.zero_point, tensor.dtype)
        return self._cache[tensor.name]


@dataclass(frozen=True)
class Call:
    """One call: the graph that is taken, and what it reads."""

    ar: int
    context_length: int
    tokens: tuple[int, ...]

    @property
    def past(self) -> int:
        """Slots for past tokens."""
        return self.context_length - self.ar


def quantise(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Return values as the tensor's type, as Genie makes them: truncated, in double precision."""
    if not tensor.scale:
        return values.astype(tensor.dtype)
    limits = np.iinfo(tensor.dtype)
    codes = np.floor(values / tensor.scale + tensor.zero_point)
    return np.clip(codes, limits.min, limits.max).astype(tensor.dtype)


def dequantise(codes: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Return float32 values."""
    if not tensor.scale:
        return codes.astype(np.float32)
    return (codes.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)


def _position_axis(name: str) -> int:
    return 3 if name.startswith("past_key_") else 2  # keys lie transposed


def _span(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(start, stop))

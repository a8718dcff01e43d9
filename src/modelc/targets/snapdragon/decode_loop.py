"""A decoder's graphs run token by token as Genie runs them: prefill in chunks, then AR-1.

Graphs come as `graphs[ar]`, the parts in order; each is called with the tensors that it names.
Tensors are those of `ir.genie`; the encodings come from the binaries' own metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelc.errors import BadInput
from modelc.ir import genie
from modelc.targets.snapdragon.binary import Tensor
from modelc.targets.snapdragon.rotary import Rotary

Arrays = Mapping[str, np.ndarray]

MASKED: Final = -1000.0  # what Genie writes into a float mask
_CACHE = re.compile(r"^past_(key|value)_\d+_in$")


@dataclass(frozen=True)
class Part:
    """One graph of one part of the model."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    run: Callable[[Arrays], Arrays]


class Decoder:
    """A KV cache and the graphs that fill it. `position` tokens have been read."""

    def __init__(
        self, graphs: Mapping[int, Sequence[Part]], rotary: Rotary, context_length: int
    ) -> None:
        self._graphs = dict(sorted(graphs.items()))
        self._rotary = rotary
        self._context_length = context_length
        self._cache: dict[str, np.ndarray] = {}
        self.position = 0

    @property
    def ars(self) -> tuple[int, ...]:
        """The AR lengths that there are, the shortest first."""
        return tuple(self._graphs)

    def read(self, tokens: Sequence[int]) -> Iterator[np.ndarray]:
        """Read tokens and yield the logits after them, float32 [n, vocab] a chunk.

        Raises:
            BadInput: the context is full.
        """
        rest = list(tokens)
        while rest:
            ar = self._choose_ar(len(rest))
            yield self._step(ar, rest[:ar])
            rest = rest[ar:]

    def _choose_ar(self, wanted: int) -> int:
        """Return the smallest AR that takes all the tokens, or else the largest that has room."""
        fitting = [ar for ar in self._graphs if self.position + ar <= self._context_length]
        if not fitting:
            raise BadInput(
                f"the context of {self._context_length} tokens is full",
                hint="use a shorter prompt, or compile for a longer context",
            )
        return next((ar for ar in fitting if ar >= wanted), fitting[-1])

    def _step(self, ar: int, tokens: Sequence[int]) -> np.ndarray:
        count = len(tokens)
        values: dict[str, np.ndarray] = {}
        for part in self._graphs[ar]:
            feed = {t.name: self._input(t, ar, tokens, values) for t in part.inputs}
            values.update(part.run(feed))
        for name, slots in self._cache.items():
            new = values[name.removesuffix("_in") + "_out"]
            axis = _position_axis(name)
            slots[_span(axis, self.position, self.position + count)] = new[_span(axis, 0, count)]
        self.position += count
        [logits] = [t for p in self._graphs[ar] for t in p.outputs if t.name == genie.LOGITS]
        return dequantise(values[genie.LOGITS][0, :count], logits)

    def _input(self, tensor: Tensor, ar: int, tokens: Sequence[int], values: Arrays) -> np.ndarray:
        if tensor.name in values:  # from the part before
            return values[tensor.name]
        if tensor.name == genie.INPUT_IDS:
            ids = np.zeros(tensor.shape, tensor.dtype)
            ids[0, : len(tokens)] = tokens
            return ids
        if tensor.name == genie.MASK:
            return self._mask(tensor, ar, len(tokens))
        if tensor.name in (genie.COS, genie.SIN):
            positions = np.arange(self.position, self.position + ar)
            table = self._rotary.tables(positions)[tensor.name == genie.SIN]
            return quantise(table.reshape(tensor.shape), tensor)
        if _CACHE.match(tensor.name):
            return self._past(tensor, ar)
        raise BadInput(f"a graph has the input {tensor.name!r}, which Genie does not know")

    def _mask(self, tensor: Tensor, ar: int, count: int) -> np.ndarray:
        seen = np.zeros((ar, self._context_length), bool)
        past = self._context_length - ar
        seen[:count, : self.position] = True
        seen[:count, past : past + count] = np.tri(count, dtype=bool)
        if tensor.scale:  # Genie knows only the ends: all ones is 0.0, zero is the minimum
            limits = np.iinfo(tensor.dtype)
            codes = np.where(seen, limits.max, limits.min)
            return codes.astype(tensor.dtype).reshape(tensor.shape)
        return np.where(seen, 0.0, MASKED).astype(tensor.dtype).reshape(tensor.shape)

    def _past(self, tensor: Tensor, ar: int) -> np.ndarray:
        axis = _position_axis(tensor.name)
        if tensor.name not in self._cache:
            shape = list(tensor.shape)
            shape[axis] = self._context_length
            self._cache[tensor.name] = np.full(shape, tensor.zero_point, tensor.dtype)
        return np.ascontiguousarray(
            self._cache[tensor.name][_span(axis, 0, self._context_length - ar)]
        )


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

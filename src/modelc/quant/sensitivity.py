"""How much each matrix costs in each kind: the KL divergence of the logits to the float model's
when that matrix alone is quantised, in mean nats per token.

The divergence is quadratic in small noise, so it nearly adds up over matrices whose noise is
independent, and over the kinds of one matrix it is in proportion to the noise that the matrix makes
where its layer ends. So a matrix is run in all its kinds through its own layer only, and what its
noisiest kind does there goes on as a *stream* through all that is behind. One walk carries all
streams, one layer in memory at a time.

A stream for each matrix takes a time that grows with the square of the number of layers. Where that
is too long, the matrices of a layer share one, in which all of them are quantised: they then differ
by their noise alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.coded import CodedMatrix
from modelc.ir.packing.kinds import KINDS, TABLE_KINDS
from modelc.ir.packing.whole import whole_encoding
from modelc.ir.provenance import module_of
from modelc.ir.rounded import rounded
from modelc.ir.weights import StoredWeight
from modelc.quant.streams import Array, Streams, Table, noise_power
from modelc.reference.checkpoint import Checkpoint, State
from modelc.reference.narrow import keep_rows
from modelc.reference.parts import cut_at_layers, is_head
from modelc.reference.session import Session, empty_caches

Progress = Callable[[float, str], None]
Divergences = Callable[[Array, Array], Array]
LOGITS: Final = "logits"


def measure_sensitivity(
    model: ir.Model,
    candidates: Mapping[str, Sequence[str]],
    samples: Sequence[Sequence[int]],
    divergences: Divergences,
    *,
    each_matrix: bool = True,
    partial: Path | None = None,
    progress: Progress = lambda fraction, message: None,
) -> Table:
    """Return the divergence that each module's matrix costs in each of its candidate kinds.

    Memory is the float32 weights of one layer or of the head, a second copy of one of its matrices
    (of all, without `each_matrix`), for each stream the hidden states of all samples, and the
    logits of all samples.

    Args:
        model: a canonical graph.
        candidates: module -> kinds (`ir.packing.kinds.KINDS`, `TABLE_KINDS` for the embedding), the
            noisiest last. Matrices are rounded to nearest, with scales of least squared error.
        samples: sequences of tokens.
        divergences: from logits [tokens, vocab] and those that they should be, expected first, to
            the divergence of each token.
        each_matrix: a stream for each matrix, or one for each layer.
        partial: folder where it is kept after each layer how far it came; a run on the same model,
            candidates and samples goes on from there.
    """
    used = np.unique(np.concatenate([np.asarray(sample, np.int64) for sample in samples]))
    parts = cut_at_layers(model)
    *body, head = parts
    assert is_head(head)
    walk, done = Streams(_first(model, samples, used)), 0
    checkpoint = Checkpoint(partial, walk) if partial else None
    if checkpoint and (kept := checkpoint.load(len(body))):
        done, walk.states = kept
    for index, part in enumerate(body[done:], done):
        needed = {str(value.name) for later in parts[index + 1 :] for value in later.graph.inputs}
        _measure_part(walk, _Part(part, needed, used), candidates, each_matrix)
        for state in walk.states:
            for name in state.keys() - needed:
                del state[name]
        if checkpoint:
            checkpoint.save(index + 1, walk.states)
        progress((index + 1) / len(parts), module_of(part.graph[-1]))
    return _measure_head(walk, _Part(head, {LOGITS}, used), candidates, divergences)


class _Part:
    """A part of a decoder, open to run with some of its weights in other kinds."""

    def __init__(self, part: ir.Model, needed: set[str], used: Array) -> None:
        part = part.clone()
        part.graph.outputs[:] = [v for v in part.graph.outputs if v.name in needed]
        self._weights = {
            module_of(use.node): value.const_value
            for value in part.graph.initializers.values()
            if isinstance(value.const_value, StoredWeight)
            for use in value.uses()
            if use.node.op_type in ("MatMul", "Gather")
        }
        self._used = used
        has_tokens = any(value.name == "input_ids" for value in part.graph.inputs)
        self._session = Session(keep_rows(part, used) if has_tokens else part)

    @property
    def modules(self) -> Iterator[str]:
        """Modules with a matrix."""
        yield from self._weights

    def as_kind(self, module: str, kind: str) -> State:
        """Return a module's matrix as its codes of a kind stand for, by its name."""
        weight = self._weights[module]
        name, source = str(weight.name), weight.source
        if kind in TABLE_KINDS and not source.transposed:
            table = rounded(weight, whole_encoding(source, TABLE_KINDS[kind])).source
            return {name: table.decode_rows(self._used)}
        form = KINDS[kind]
        if not (isinstance(source, CodedMatrix) and source.form == form):
            source = rounded(weight, form).source
        return {name: replace(source, transposed=False).decode()}

    def run(self, feeds: Mapping[str, Array]) -> State:
        return self._session.run(feeds)


def _first(model: ir.Model, samples: Sequence[Sequence[int]], used: Array) -> list[State]:
    """Return what the first part reads; tokens as places among those that are used."""
    return [
        {
            "input_ids": np.searchsorted(used, np.asarray(sample, np.int64))[None],
            "position_ids": np.arange(len(sample), dtype=np.int64)[None],
            **empty_caches(model, 1),
        }
        for sample in samples
    ]


def _measure_part(
    walk: Streams, part: _Part, candidates: Mapping[str, Sequence[str]], each_matrix: bool
) -> None:
    """Run all streams through a part, measure what its matrices add, and let new ones begin."""
    for name, stream in walk.streams.items():
        walk.streams[name] = [
            part.run(state | moved) for state, moved in zip(walk.states, stream, strict=True)
        ]
    plain = [part.run(state) for state in walk.states]
    modules = [module for module in part.modules if candidates.get(module)]
    loudest: State = {}
    for module in modules:
        powers = walk.figures.noise.setdefault(module, {})
        for kind in candidates[module]:
            weight = part.as_kind(module, kind)
            made = [part.run(state | weight) for state in walk.states]
            powers[kind] = noise_power(plain, made)
        if each_matrix:
            walk.begin(module, [module], plain, made)
        else:
            loudest |= weight
    if loudest:
        made = [part.run(state | loudest) for state in walk.states]
        walk.begin(modules[0], modules, plain, made)
    for state, outputs in zip(walk.states, plain, strict=True):
        state |= outputs


def _measure_head(
    walk: Streams, head: _Part, candidates: Mapping[str, Sequence[str]], divergences: Divergences
) -> Table:
    """Return what streams do to the logits as divergences, and what the head's own kinds do."""
    expected = [head.run(state)[LOGITS][0] for state in walk.states]

    def cost(changes: Sequence[State]) -> float:
        found = (
            divergences(wanted, head.run(state | change)[LOGITS][0])
            for wanted, state, change in zip(expected, walk.states, changes, strict=True)
        )
        # Of equal logits rounding may leave less than nothing.
        return max(float(np.concatenate(list(found)).mean()), 0.0)

    costs = {name: cost(stream) for name, stream in walk.streams.items()}
    table: Table = {}
    figures = walk.figures
    for module, powers in figures.noise.items():
        stream = figures.stream_of[module]
        gain = costs[stream] / figures.begun[stream] if figures.begun[stream] else 0.0
        table[module] = {kind: power * gain for kind, power in powers.items()}
    for module in head.modules:
        if kinds := candidates.get(module):
            changes = ([head.as_kind(module, kind)] * len(walk.states) for kind in kinds)
            table[module] = {kind: cost(one) for kind, one in zip(kinds, changes, strict=True)}
    return table

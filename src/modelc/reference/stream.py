"""The float reference of a model of any size: layer by layer, one layer's weights in memory."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import dims_of
from modelc.reference.checkpoint import Checkpoint, State
from modelc.reference.narrow import PIECE_BYTES, keep_rows, split_head
from modelc.reference.parts import cut_at_layers, is_head
from modelc.reference.session import Session, WeightObserver, check_tokens, empty_caches

LOGITS_BYTES: Final = 256 << 20  # of the sequences whose head is run at once

Observer = Callable[[str, np.ndarray], None]


class StreamedReference:
    """Runs whole sequences from position 0 through a canonical or expanded graph.

    Peak memory is the float32 weights of one part, its tensors for one sequence, what crosses to
    later parts for all sequences, and LOGITS_BYTES of logits or those of one sequence. Of the
    embedding only the rows of the tokens are decoded, a large head is multiplied in pieces.

    Args:
        look: called with every weight when it is decoded, matrices as [out, in]; of the embedding
            with the rows that are used.
    """

    def __init__(
        self,
        model: ir.Model,
        threads: int = 0,
        piece_bytes: int = PIECE_BYTES,
        look: WeightObserver | None = None,
    ) -> None:
        self._model = model
        self._names = {value.name for node in model.graph for value in node.outputs}
        parts = cut_at_layers(split_head(model, piece_bytes))
        self._body = [part for part in parts if not is_head(part)]
        self._head = [part for part in parts if is_head(part)]
        self._empty = empty_caches(model, 1)
        self._threads = threads
        self._look = look

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: the logits after each token."""
        return next(self.logits_of([token_ids]))

    def logits_of(self, sequences: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield the logits of each sequence; layers are decoded once for all of them."""
        states = self._start_all(sequences)
        self._run_body(sequences, states)
        for group in self._groups(states, sequences):
            self._run(self._head, group, {"logits"})
            for state in group:
                yield state.pop("logits")[0]

    def observe(
        self,
        sequences: Sequence[Sequence[int]],
        observer: Observer,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Call `observer(name, array)` with every float32 tensor that the nodes make: one part
        after the other, for each sequence in turn. With a checkpoint it goes on behind the parts
        that are kept there, and adds each further one."""
        done, states = 0, self._start_all(sequences)
        if checkpoint and (kept := checkpoint.load(len(self._body))):
            done, states = kept[0], [self._empty | state for state in kept[1]]

        def keep(index: int) -> None:
            if checkpoint:
                checkpoint.save(index + 1, [_without(state, self._empty) for state in states])

        self._run_body(sequences, states, observer, done, keep)
        for number, group in enumerate(self._groups(states, sequences), len(self._body)):
            if number < done:
                continue
            self._run(self._head, group, set(), observer)
            if checkpoint:
                checkpoint.save(number + 1)

    def _run_body(
        self,
        sequences: Sequence[Sequence[int]],
        states: Sequence[State],
        observer: Observer | None = None,
        done: int = 0,
        finished: Callable[[int], None] = lambda index: None,
    ) -> None:
        """Run all but the head and the parts that are `done`; the states then hold what the head
        reads."""
        used = np.unique(np.concatenate(sequences).astype(np.int64))
        body = [keep_rows(self._body[0], used), *self._body[1:]]
        if not done:
            for state in states:
                state["input_ids"] = np.searchsorted(used, state["input_ids"])
        for index, part in enumerate(body[done:], done):
            self._run([part], states, _reads([*body[index + 1 :], *self._head]), observer)
            finished(index)

    def _start_all(self, sequences: Sequence[Sequence[int]]) -> list[State]:
        return [self._start(token_ids) for token_ids in sequences]

    def _start(self, token_ids: Sequence[int]) -> State:
        ids = np.asarray(token_ids, np.int64)[None]
        check_tokens(self._model, ids, ids.shape[1])
        positions = np.arange(ids.shape[1], dtype=np.int64)[None]
        return {"input_ids": ids, "position_ids": positions, **self._empty}

    def _run(
        self,
        parts: Sequence[ir.Model],
        states: Sequence[State],
        wanted: set[str],
        observer: Observer | None = None,
    ) -> None:
        """Run parts one after the other on all states, which in the end hold what is `wanted`."""
        for index, part in enumerate(parts):
            needed = _reads(parts[index + 1 :]) | wanted
            session = Session(all_outputs(part) if observer else part, self._threads, self._look)
            for state in states:
                made = session.run(state)
                if observer:
                    for name, array in made.items():
                        if array.dtype == np.float32 and name in self._names:
                            observer(name, array)
                state |= made
                del made
                for name in state.keys() - needed:
                    del state[name]
            del session  # before the next part's weights are decoded

    def _groups(
        self, states: Sequence[State], sequences: Sequence[Sequence[int]]
    ) -> Iterator[list[State]]:
        """Yield the states, as many together as LOGITS_BYTES holds logits of."""
        row_bytes = 4 * int(dims_of(self._model.graph.outputs[0])[-1])
        room = max(1, LOGITS_BYTES // row_bytes)
        group: list[State] = []
        tokens = 0
        for state, token_ids in zip(states, sequences, strict=True):
            if group and tokens + len(token_ids) > room:
                yield group
                group, tokens = [], 0
            group.append(state)
            tokens += len(token_ids)
        yield group


def _reads(parts: Sequence[ir.Model]) -> set[str]:
    return {str(value.name) for part in parts for value in part.graph.inputs}


def _without(state: State, names: Container[str]) -> State:
    return {name: array for name, array in state.items() if name not in names}


def all_outputs(part: ir.Model) -> ir.Model:
    """Return a copy of a part whose every float32 tensor is an output."""
    part = part.clone()
    for node in part.graph:
        part.graph.outputs.extend(
            value
            for value in node.outputs
            if value.dtype == ir.DataType.FLOAT and not value.is_graph_output()
        )
    return part

"""The float reference of a model of any size: layer by layer, one layer's weights in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from modelc.ir.emit import dims_of
from modelc.reference.narrow import PIECE_BYTES, keep_rows, split_head
from modelc.reference.parts import cut_at_layers, is_head
from modelc.reference.session import Session, check_tokens, empty_caches

LOGITS_BYTES: Final = 256 << 20  # of the sequences whose head is run at once

Observer = Callable[[str, np.ndarray], None]
State = dict[str, np.ndarray]
"""What the parts behind read of one sequence, by name."""


class StreamedReference:
    """Runs whole sequences from position 0 through a canonical or expanded graph.

    Peak memory is the float32 weights of one part, its tensors for one sequence, what crosses to
    later parts for all sequences, and LOGITS_BYTES of logits or those of one sequence. Of the
    embedding only the rows of the tokens are decoded, a large head is multiplied in pieces.
    """

    def __init__(self, model: ir.Model, threads: int = 0, piece_bytes: int = PIECE_BYTES) -> None:
        self._model = model
        self._names = {value.name for node in model.graph for value in node.outputs}
        parts = cut_at_layers(split_head(model, piece_bytes))
        self._body = [part for part in parts if not is_head(part)]
        self._head = [part for part in parts if is_head(part)]
        self._empty = empty_caches(model, 1)
        self._threads = threads

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: the logits after each token."""
        return next(self.logits_of([token_ids]))

    def logits_of(self, sequences: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield the logits of each sequence; layers are decoded once for all of them."""
        states = self._through_layers(sequences)
        for group in self._groups(states, sequences):
            self._run(self._head, group, {"logits"})
            for state in group:
                yield state.pop("logits")[0]

    def observe(self, sequences: Sequence[Sequence[int]], observer: Observer) -> None:
        """Call `observer(name, array)` with every float32 tensor that the nodes make: one part
        after the other, for each sequence in turn."""
        states = self._through_layers(sequences, observer)
        for group in self._groups(states, sequences):
            self._run(self._head, group, set(), observer)

    def _through_layers(
        self, sequences: Sequence[Sequence[int]], observer: Observer | None = None
    ) -> list[State]:
        """Run all but the head; the states then hold what it reads."""
        states = [self._start(token_ids) for token_ids in sequences]
        used = np.unique(np.concatenate([state["input_ids"][0] for state in states]))
        for state in states:
            state["input_ids"] = np.searchsorted(used, state["input_ids"])
        body = [keep_rows(self._body[0], used), *self._body[1:]]
        self._run(body, states, _reads(self._head), observer)
        return states

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
            session = Session(_all_outputs(part) if observer else part, self._threads)
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


def _all_outputs(part: ir.Model) -> ir.Model:
    """Return a copy of a part whose every tensor is an output."""
    part = part.clone()
    for node in part.graph:
        part.graph.outputs.extend(v for v in node.outputs if not v.is_graph_output())
    return part

"""The float reference of a model of any size: layer by layer, one layer's weights in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from modelc.reference.narrow import PIECE_BYTES, keep_rows, split_head
from modelc.reference.parts import cut_at_layers
from modelc.reference.session import Session, check_tokens, empty_caches

Observer = Callable[[str, np.ndarray], None]


class StreamedReference:
    """Runs whole sequences from position 0 through a canonical or expanded graph.

    Peak memory is the float32 weights of one part, its tensors for one sequence, and what crosses
    to later parts for all sequences. Of the embedding only the rows of the tokens are decoded, a
    large head is multiplied in pieces.
    """

    def __init__(self, model: ir.Model, threads: int = 0, piece_bytes: int = PIECE_BYTES) -> None:
        self._model = model
        self._names = {value.name for node in model.graph for value in node.outputs}
        self._parts = cut_at_layers(split_head(model, piece_bytes))
        self._empty = empty_caches(model, 1)
        self._threads = threads

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: the logits after each token."""
        return next(self.logits_of([token_ids]))

    def logits_of(self, sequences: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield the logits of each sequence; weights are decoded once for all of them."""
        states = [self._start(token_ids) for token_ids in sequences]
        for part, needed in self._steps(states):
            session = Session(part, self._threads)
            for state in states:
                state |= session.run(state)
                _drop(state, needed)
            del session  # before the next part's weights are decoded
        for state in states:
            yield state.pop("logits")[0]

    def observe(self, sequences: Sequence[Sequence[int]], observer: Observer) -> None:
        """Call `observer(name, array)` with every float32 tensor that the nodes make, for each
        sequence in turn, one part after the other."""
        states = [self._start(token_ids) for token_ids in sequences]
        for part, needed in self._steps(states):
            session = Session(_all_outputs(part), self._threads)
            for state in states:
                made = session.run(state)
                for name, array in made.items():
                    if array.dtype == np.float32 and name in self._names:
                        observer(name, array)
                state |= made
                _drop(state, needed)
            del session

    def _start(self, token_ids: Sequence[int]) -> dict[str, np.ndarray]:
        ids = np.asarray(token_ids, np.int64)[None]
        check_tokens(self._model, ids, ids.shape[1])
        positions = np.arange(ids.shape[1], dtype=np.int64)[None]
        return {"input_ids": ids, "position_ids": positions, **self._empty}

    def _steps(self, states: list[dict[str, np.ndarray]]) -> Iterator[tuple[ir.Model, set[str]]]:
        """Yield each part with the names that later parts read."""
        used = np.unique(np.concatenate([state["input_ids"][0] for state in states]))
        for state in states:
            state["input_ids"] = np.searchsorted(used, state["input_ids"])
        parts = [keep_rows(self._parts[0], used), *self._parts[1:]]
        for index, part in enumerate(parts):
            later = parts[index + 1 :]
            needed = {str(value.name) for after in later for value in after.graph.inputs}
            yield part, needed | {"logits"}


def _all_outputs(part: ir.Model) -> ir.Model:
    """Return a copy of a part whose every tensor is an output."""
    part = part.clone()
    for node in part.graph:
        part.graph.outputs.extend(v for v in node.outputs if not v.is_graph_output())
    return part


def _drop(state: dict[str, np.ndarray], needed: set[str]) -> None:
    for name in state.keys() - needed:
        del state[name]

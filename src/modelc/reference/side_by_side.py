"""Two graphs of one decoder run in step, part by part, so that their tensors can be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from modelc.reference.narrow import PIECE_BYTES, keep_rows, split_head
from modelc.reference.parts import cut_at_layers
from modelc.reference.session import Session, check_tokens, empty_caches
from modelc.reference.stream import all_outputs

Tensors = dict[str, np.ndarray]
PairObserver = Callable[[Tensors, Tensors], None]
"""Called with what the nodes of a part make of a sequence in either graph, by name."""


def run_side_by_side(
    left: ir.Model,
    right: ir.Model,
    sequences: Sequence[Sequence[int]],
    observer: PairObserver,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Run sequences from position 0 through two graphs that have the same layers, and show all that
    one part makes of one sequence at once.

    Peak memory is the float32 weights of one part of both, all of its tensors for one sequence, and
    what crosses to later parts for all sequences.
    """
    sides = [_Side(left, sequences), _Side(right, sequences)]
    count = len(sides[0].parts)
    assert count == len(sides[1].parts), "graphs of other layers"
    for part in range(count):
        for side in sides:
            side.open(part)
        for sequence in range(len(sequences)):
            observer(*(side.run(sequence) for side in sides))
        progress(part + 1, count)


class _Side:
    """One of the graphs: its parts, and what later parts read of each sequence."""

    def __init__(self, model: ir.Model, sequences: Sequence[Sequence[int]]) -> None:
        used = np.unique(np.concatenate([np.asarray(one, np.int64) for one in sequences]))
        first, *rest = cut_at_layers(split_head(model, PIECE_BYTES))
        self.parts = [keep_rows(first, used), *rest]
        self._states = [_start(model, one, used) for one in sequences]

    def open(self, part: int) -> None:
        """Decode a part's weights, those of the part before gone."""
        self._session: Session | None = None
        self._session = Session(all_outputs(self.parts[part]))
        later = self.parts[part + 1 :]
        self._needed = {str(value.name) for one in later for value in one.graph.inputs}

    def run(self, sequence: int) -> Tensors:
        assert self._session is not None
        state = self._states[sequence]
        made = self._session.run(state)
        kept = {**state, **made}
        self._states[sequence] = {name: a for name, a in kept.items() if name in self._needed}
        return made


def _start(model: ir.Model, token_ids: Sequence[int], used: np.ndarray) -> Tensors:
    ids = np.asarray(token_ids, np.int64)[None]
    check_tokens(model, ids, ids.shape[1])
    positions = np.arange(ids.shape[1], dtype=np.int64)[None]
    places = np.searchsorted(used, ids)
    return {"input_ids": places, "position_ids": positions, **empty_caches(model, 1)}

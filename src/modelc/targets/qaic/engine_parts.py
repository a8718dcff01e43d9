"""A card's graph in ONNX Runtime layer by layer, so that memory holds the weights of one part only.

Slow where each call follows from the one before; calls that are all known go through a part
together (`run_all`), and then its weights are read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelc.reference.parts import cut_at_layers
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.engine_onnx import STATE, load_card_graph, open_session, zero_states
from modelc.targets.qaic.sampled import LOGITS, SAMPLER_INPUT

_STEP: Final = 64  # positions by which states grow
_CALLS: Final[dict[str, Any]] = {
    "prefill_seq_len": 1,
    "decode_seq_len": 1,
    "prefill_lengths": (),
    "decode_lengths": (),
}
"""Sizes of calls that are none of a state's."""


class PartsEngine:
    """A graph of the card's contract on ONNX Runtime's CPU (`Engine`); it gives logits, whatever
    the card would choose of them."""

    name = "onnxruntime"

    def __init__(self, path: Path, shapes: CallShapes, threads: int = 0) -> None:
        """Load a graph, its weights beside it; `threads` 0 is one for each physical core.

        Raises:
            BadInput: no such graph, or its weights are not whole.
        """
        model = load_card_graph(path)
        _leave_out_sampler(model)
        names = {str(value.name) for value in model.graph.inputs}
        self._parts = cut_at_layers(model)
        self._path = path
        self._threads = threads
        self._model = model
        self._shapes = shapes
        # As long as calls reach, not as the context is: most of it would be copied for nothing.
        self._length = 1
        self._states = zero_states(model, replace(shapes, **_CALLS, context_length=1))
        self.inputs = frozenset(names - self._states.keys())

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a call; the states it leaves are those of the next one."""
        return self.run_all([feeds])[0]

    def run_all(self, calls: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
        """Run calls one after the other through each part in turn.

        Raises:
            Damaged: ONNX Runtime can't load a part.
        """
        self._reach(max(map(_needed, calls)))
        live = [dict(feeds) for feeds in calls]
        for number, part in enumerate(self._parts):
            self._run_part(part, live)
            needed = {
                str(v.name) for later in self._parts[number + 1 :] for v in later.graph.inputs
            }
            for arrays in live:
                for name in arrays.keys() - needed - {"logits", LOGITS}:
                    del arrays[name]
        return live

    def _reach(self, length: int) -> None:
        """Have states of at least so many positions."""
        length = min(-(-length // _STEP) * _STEP, self._shapes.context_length)
        if length <= self._length:
            return
        kept = self._length
        longer = zero_states(self._model, replace(self._shapes, **_CALLS, context_length=length))
        for name, state in self._states.items():
            if state.shape == longer[name].shape:  # what a sampler keeps has no positions
                longer[name] = state
            else:
                longer[name][:, :, :kept] = state[:, :, :kept]  # not where padding was written
        self._states, self._length = longer, length

    def close(self) -> None:
        """Let go of the states."""
        self._states.clear()

    def _run_part(self, part: ir.Model, live: list[dict[str, np.ndarray]]) -> None:
        session = open_session(part, self._path, self._threads)
        inputs = [argument.name for argument in session.get_inputs()]
        outputs = [argument.name for argument in session.get_outputs()]
        for arrays in live:
            known = arrays | self._states
            made = session.run(outputs, {name: known[name] for name in inputs})
            for name, array in zip(outputs, made, strict=True):
                if name.endswith(STATE):
                    self._states[name.removesuffix(STATE)] = array
                else:
                    arrays[name] = array


def _needed(feeds: Mapping[str, np.ndarray]) -> int:
    """The positions that a call writes or looks at."""
    looked = feeds["comp_ctx_lengths"].size if "comp_ctx_lengths" in feeds else 0
    return max(int(feeds["position_ids"].max()) + 1, looked, 1)


def _leave_out_sampler(model: ir.Model) -> None:
    """Keep what leads to the logits that a sampler reads, and to the KV cache."""
    graph = model.graph
    if SAMPLER_INPUT not in {value.name for value in graph.inputs}:
        return
    cache = [v for v in graph.outputs if str(v.name).startswith(("past_key.", "past_value."))]
    graph.outputs[:] = [*(v for v in graph.outputs if v.name == LOGITS), *cache]
    RemoveUnusedNodesPass()(model)
    unused = [value for value in graph.inputs if not value.uses()]
    graph.inputs[:] = [value for value in graph.inputs if value not in unused]

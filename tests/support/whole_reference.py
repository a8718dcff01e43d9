"""A whole graph in one session, with a KV cache: prefill, then decode."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelc.reference.session import Session, check_tokens, empty_caches


class WholeReference:
    """Runs a canonical or expanded graph on batches of sequences of one length.

    All weights are in memory as float32: for small models and tests.
    """

    def __init__(self, model: ir.Model, threads: int = 0) -> None:
        self._session = Session(model, threads)
        self._model = model
        self._past: dict[str, np.ndarray] = {}
        self._length = 0

    def reset(self) -> None:
        """Forget all tokens."""
        self._past, self._length = {}, 0

    def step(self, token_ids: np.ndarray) -> np.ndarray:
        """Append tokens, int64 [batch, n]; return their logits, float32 [batch, n, vocab].

        Raises:
            BadInput: a token is not in the vocabulary, or the context is full.
        """
        batch, count = token_ids.shape
        check_tokens(self._model, token_ids, self._length + count)
        positions = np.arange(self._length, self._length + count, dtype=np.int64)
        feeds = self._past or empty_caches(self._model, batch)
        feeds["input_ids"] = token_ids.astype(np.int64)
        feeds["position_ids"] = np.broadcast_to(positions, (batch, count)).copy()
        made = self._session.run(feeds)
        logits = made.pop("logits")
        self._past = {name.replace("present.", "past_key_values."): made[name] for name in made}
        self._length += count
        return logits

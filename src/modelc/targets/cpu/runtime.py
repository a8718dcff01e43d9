"""Runs a CPU bundle: chunked prefill, then token by token."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput
from modelc.targets.cpu.session import CachedSession
from modelc.targets.runtime import Finding, Generation, OnToken, Runtime, Sampling
from modelc.targets.sampling import Sampler

CHUNK: Final = 256  # tokens of a prompt that are computed together
CHECKED_STEPS: Final = 16
# A wrong position or cache gives about 0 dB; kernels for one row and for many round differently,
# which int8 activations amplify.
MIN_AGREEMENT_DB: Final = 20.0


def open_runtime(files: Mapping[str, Path], settings: Mapping[str, Any]) -> Runtime:
    """Load a compiled model.

    Args:
        files: `model` is model.onnx, its weights beside it.
        settings: context_length, vocab_size, threads (0: one for each physical core).

    Raises:
        Damaged: the file is no lowered decoder.
    """
    session = CachedSession(files["model"], settings["vocab_size"], settings.get("threads", 0))
    return OnnxRuntime(session, settings["context_length"])


class OnnxRuntime:
    """The lowered decoder on ONNX Runtime's CPU kernels."""

    name = "onnxruntime"

    def __init__(self, session: CachedSession, context_length: int) -> None:
        self._session = session
        self._context_length = context_length

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: the logits after each token."""
        self._check(token_ids)
        logits = np.empty((len(token_ids), self._session.vocab_size), np.float32)
        for past, chunk in _chunks(token_ids):
            logits[past : past + len(chunk)] = self._session.extend(chunk, past, range(len(chunk)))
        return logits

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Generate until a stop token, `max_new_tokens` or the end of the context."""
        self._check(prompt_ids)
        sampler, stops, history = Sampler(sampling), frozenset(stop_ids), list(prompt_ids)
        step, choose = self._session.step, sampler.choose
        # The last token's logits need no position of their own.
        room = min(max_new_tokens, self._context_length - len(prompt_ids) + 1)

        start = time.perf_counter()
        for past, chunk in _chunks(prompt_ids):
            logits = self._session.extend(chunk, past, [len(chunk) - 1])[0]
        token = choose(logits, history) if room > 0 else -1
        prefilled = time.perf_counter()

        new: list[int] = []
        while len(new) < room and token not in stops:
            new.append(token)
            history.append(token)
            if on_token is not None:
                on_token(token)
            if len(new) < room:
                token = choose(step(token, len(history) - 1), history)
        return Generation(
            tuple(new), len(prompt_ids), prefilled - start, time.perf_counter() - prefilled
        )

    def findings(self, token_ids: Sequence[int], logits: np.ndarray) -> Sequence[Finding]:
        """Check that decoding token by token gives the logits of the prefill."""
        count = min(CHECKED_STEPS, len(token_ids))
        rows = [self._session.step(token, at).copy() for at, token in enumerate(token_ids[:count])]
        noise = np.square(np.stack(rows) - logits[:count], dtype=np.float64).sum()
        signal = np.square(logits[:count], dtype=np.float64).sum()
        agreement = 10 * np.log10(signal / noise) if noise else np.inf
        return [
            Finding(
                "decode agrees with prefill",
                bool(agreement >= MIN_AGREEMENT_DB),
                f"SQNR {agreement:.1f} dB over {count} tokens",
            )
        ]

    def close(self) -> None:
        """Free the session and the cache."""
        del self._session

    def _check(self, token_ids: Sequence[int]) -> None:
        if not 0 < len(token_ids) <= self._context_length:
            raise BadInput(
                f"{len(token_ids)} tokens don't fit a context of {self._context_length}",
                hint="compile with a longer --context-length" if len(token_ids) else "",
            )


def _chunks(token_ids: Sequence[int]) -> list[tuple[int, Sequence[int]]]:
    """Return (position of the first token, tokens) of each chunk."""
    starts = range(0, len(token_ids), CHUNK)
    return [(start, token_ids[start : start + CHUNK]) for start in starts]

"""llama.cpp under test, through llama-cpp-python's bindings of its C interface.

The C calls are timed alone, with nothing of the Python wrapper's sampling around them.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import llama_cpp as llama
import numpy as np
from worker import peak_mb, serve


class Engine:
    """One model and one context of one sequence."""

    def __init__(self) -> None:
        self._quiet = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self._quiet, None)
        llama.llama_backend_init()
        self._model: Any = None
        self._context: Any = None
        self._vocab = 0

    def version(self) -> dict[str, Any]:
        return {"version": llama.__version__}

    def quantise(self, source: str, target: str, kind: str) -> dict[str, Any]:
        """Quantise a GGUF file as `kind` (such as Q4_K_M) says."""
        options = llama.llama_model_quantize_default_params()
        options.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{kind}")
        status = llama.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options))
        if status:
            raise RuntimeError(f"llama_model_quantize returned {status}")
        return {}

    def open(self, model: str, context: int, threads: int) -> dict[str, Any]:
        start = time.perf_counter()
        self._model = llama.llama_model_load_from_file(
            model.encode(), llama.llama_model_default_params()
        )
        options = llama.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = context
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self._context = llama.llama_init_from_model(self._model, options)
        if not self._model or not self._context:
            raise RuntimeError("llama.cpp can't load it")
        self._vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))
        return {"seconds": time.perf_counter() - start}

    def generate(self, prompt: Sequence[int], count: int) -> dict[str, Any]:
        """Prefill in an empty cache, then greedy decoding; `count` tokens in all."""
        self._forget()
        start = time.perf_counter()
        token = int(self._run(prompt, 0)[-1].argmax())
        prefilled = time.perf_counter()
        tokens = [token]
        for position in range(len(prompt), len(prompt) + count - 1):
            token = int(self._run([token], position)[-1].argmax())
            tokens.append(token)
        end = time.perf_counter()
        return {"prefill": prefilled - start, "decode": end - prefilled, "tokens": tokens}

    def compare(self, reference: str) -> dict[str, Any]:
        """Return how far the logits are from the float model's."""
        with np.load(reference) as wanted:
            found = self.logits(wanted["token_ids"].tolist())
            return {"sqnr_db": sqnr_db(wanted["logits"], found)}

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Return float32 [tokens, vocab], read in an empty cache."""
        self._forget()
        return self._run(tokens, 0, every=True).copy()  # the next call overwrites it

    def peak(self) -> dict[str, Any]:
        return {"mb": peak_mb()}

    def _forget(self) -> None:
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)

    def _run(self, tokens: Sequence[int], past: int, every: bool = False) -> np.ndarray:
        """Return float32 [rows, vocab]: logits of the last token, or of all."""
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at] = token, past + at
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
            batch.logits[at] = every or at == len(tokens) - 1
        status = llama.llama_decode(self._context, batch)
        llama.llama_batch_free(batch)
        if status:
            raise RuntimeError(f"llama_decode returned {status}")
        rows = len(tokens) if every else 1
        logits = llama.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, shape=(rows, self._vocab))


def sqnr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    noise = np.square(wanted - found, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(wanted, dtype=np.float64).sum() / noise))


if __name__ == "__main__":
    engine = Engine()
    serve(
        {
            "version": engine.version,
            "quantise": engine.quantise,
            "open": engine.open,
            "generate": engine.generate,
            "compare": engine.compare,
            "peak": engine.peak,
        }
    )

"""A modelc bundle under test, through the runtime that `modelc run` uses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime  # here, so that loading a model doesn't include it
from worker import peak_mb, serve

from modelc import Bundle, __version__
from modelc.targets.runtime import Runtime, Sampling
from modelc.verify.metrics import sqnr_db

_loaded: list[Runtime] = []


def version() -> dict[str, Any]:
    return {"version": f"{__version__}, onnxruntime {onnxruntime.__version__}"}


def open(model: str, threads: int) -> dict[str, Any]:
    start = time.perf_counter()
    _loaded[:] = [Bundle.open(model, threads=threads, check=False).runtime]
    return {"seconds": time.perf_counter() - start}


def generate(prompt: Sequence[int], count: int) -> dict[str, Any]:
    """Prefill in an empty cache, then greedy decoding; `count` tokens in all."""
    made = _loaded[0].generate(prompt, Sampling(), count, ())
    return {
        "prefill": made.prefill_seconds,
        "decode": made.decode_seconds,
        "tokens": list(made.token_ids),
    }


def compare(reference: str) -> dict[str, Any]:
    """Return how far the logits are from the float model's."""
    with np.load(reference) as wanted:
        found = _loaded[0].logits(wanted["token_ids"].tolist())
        return {"sqnr_db": sqnr_db(wanted["logits"], found)}


def peak() -> dict[str, Any]:
    return {"mb": peak_mb()}


if __name__ == "__main__":
    serve({f.__name__: f for f in (version, open, generate, compare, peak)})

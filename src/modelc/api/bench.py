"""How fast a bundle runs here."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from modelc.errors import BadInput
from modelc.pipeline.memory import MB, high_water_bytes
from modelc.targets.runtime import Sampling

if TYPE_CHECKING:
    from modelc.api.bundle import Bundle


def bench(bundle: Bundle, prompt_tokens: int, new_tokens: int, runs: int) -> dict[str, Any]:
    """Return medians over runs with different random prompts; rates in tokens per second.

    Raises:
        BadInput: the tokens don't fit the context.
    """
    if prompt_tokens + new_tokens > bundle.context_length:
        raise BadInput(
            f"{prompt_tokens} + {new_tokens} tokens don't fit the context of "
            f"{bundle.context_length}",
            hint="use smaller --prompt-tokens and --new-tokens",
        )
    start = time.perf_counter()
    runtime = bundle.runtime
    load_seconds = time.perf_counter() - start
    random = np.random.default_rng(0)
    results = []
    for _ in range(runs):
        prompt = random.integers(0, bundle.manifest.settings["vocab_size"], prompt_tokens)
        results.append(runtime.generate(prompt.tolist(), Sampling(), new_tokens, ()))
    return {
        "runtime": runtime.name,
        "prefill_tokens_per_s": statistics.median(r.prefill_tokens_per_s for r in results),
        "decode_tokens_per_s": statistics.median(r.decode_tokens_per_s for r in results),
        "load_seconds": load_seconds,
        "peak_mb": high_water_bytes() / MB,
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "runs": runs,
    }

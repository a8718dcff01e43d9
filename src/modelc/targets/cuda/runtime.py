"""Runs a CUDA bundle: several sequences together, over a paged cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput
from modelc.targets.cuda.choose_engine import choose_engine
from modelc.targets.cuda.executor import Executor, Piece
from modelc.targets.cuda.loading import load_executor
from modelc.targets.cuda.plan import load_plan
from modelc.targets.cuda.ranks import start_ranks
from modelc.targets.cuda.requests import Batch, Request
from modelc.targets.runtime import Finding, Generation, OnToken, Sampling

CHECKED_STEPS: Final = 16
# A wrong position or cache gives about 0 dB; kernels for few tokens and for many round differently,
# and with FP8 many are rounded to codes.
MIN_AGREEMENT_DB: Final = 10.0
OnBatchToken = Callable[[int, int], None]


def open_runtime(files: Mapping[str, Path], settings: Mapping[str, Any]) -> PlanRuntime:
    """Load a launch plan.

    Args:
        files: `plan`, its weights beside it, and, to run on a GPU, `kernels`, the folder of cubins.
        settings: `engine`: "auto" (a GPU, or the reference operators), "cuda", "reference" or
            "interpreter"; the rest is in the plan.

    Raises:
        Damaged: a file isn't what it says.
        Missing: the engine can't run here.
    """
    engine, kernels = str(settings.get("engine", "auto")), files.get("kernels")
    choose_engine(engine, kernels)  # says what is missing before other processes are started
    ranks = start_ranks(files["plan"], load_plan(files["plan"]).ranks, engine, kernels)
    return PlanRuntime(load_executor(files["plan"], engine, kernels, ranks))


class PlanRuntime:
    """A launch plan on an engine."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.name = executor.engine.name

    @property
    def allocated(self) -> int:
        """Bytes of all that was allocated on the device."""
        return self._executor.memory.nbytes

    def logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """Return float32 [len(token_ids), vocab]: the logits after each token."""
        self._check(token_ids)
        plan = self._executor.plan
        prefill = next(one for one in plan.functions if one.kind == "prefill")
        step = min(prefill.most["tokens"], prefill.most["rows"])
        rows = np.empty((len(token_ids), plan.vocabulary), np.float32)
        for past in range(0, len(token_ids), step):
            chunk = token_ids[past : past + step]
            piece = Piece(chunk, past, self._pages(len(token_ids)), range(len(chunk)))
            rows[past : past + len(chunk)] = self._executor.prefill([piece]).cpu().numpy()
        return rows

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnToken | None = None,
    ) -> Generation:
        """Generate until a stop token, `max_new_tokens` or the end of the context."""
        told = None if on_token is None else lambda _, token: on_token(token)
        return self.generate_all([prompt_ids], sampling, max_new_tokens, stop_ids, told)[0]

    def generate_all(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        max_new_tokens: int,
        stop_ids: Sequence[int],
        on_token: OnBatchToken | None = None,
    ) -> list[Generation]:
        """Generate for several prompts together.

        Returns:
            One of each prompt: the time to its first token, from the start of all of them, and
            the time from then to its last one.
        """
        batch = Batch(self._executor)
        began = time.perf_counter()
        requests = []
        for number, prompt in enumerate(prompts):
            tell = None if on_token is None else _telling(on_token, number)
            requests.append(batch.add(prompt, sampling, max_new_tokens, stop_ids, tell))
        batch.run()
        return [_generation(request, began) for request in requests]

    def findings(self, token_ids: Sequence[int], logits: np.ndarray) -> Sequence[Finding]:
        """Check that decoding token by token gives the logits of the prefill; and say whose
        numbers these are."""
        count = min(CHECKED_STEPS, len(token_ids))
        pages = self._pages(count)
        rows = [
            self._executor.decode([Piece([token], past, pages)]).cpu().numpy().copy()
            for past, token in enumerate(token_ids[:count])
        ]
        noise = np.square(np.concatenate(rows) - logits[:count], dtype=np.float64).sum()
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
        """Free what is held, on all devices."""
        self._executor.ranks.end()
        del self._executor

    def _pages(self, positions: int) -> range:
        """The first pages, for a sequence that is alone."""
        return range(-(-positions // self._executor.plan.cache.page))

    def _check(self, token_ids: Sequence[int]) -> None:
        longest = self._executor.plan.context_length
        if not 0 < len(token_ids) <= longest:
            raise BadInput(
                f"{len(token_ids)} tokens don't fit a context of {longest}",
                hint="compile with a longer --context-length" if len(token_ids) else "",
            )


def _telling(on_token: OnBatchToken, number: int) -> OnToken:
    return lambda token: on_token(number, token)


def _generation(request: Request, began: float) -> Generation:
    first = request.first_token_at or time.perf_counter()
    last = request.last_token_at or first
    return Generation(tuple(request.new), len(request.prompt), first - began, last - first)

"""Launch plans of random little models, loaded on an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import Rope
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.pipeline.cuda_plan import lower
from modelc.targets.cuda.engine import Engine, reference_engine
from modelc.targets.cuda.executor import Executor
from modelc.targets.cuda.lower import Sizes, make_plan
from modelc.targets.cuda.memory import allocate
from modelc.targets.cuda.plan import PLAN, LaunchPlan, load_plan, save_plan, weights_name
from modelc.targets.cuda.weights_file import write_weights
from support.tiny_source import tiny_config, tiny_source
from support.tiny_source import write_weights as write_source
from support.whole_reference import WholeReference

SIZES = Sizes(context_length=32, max_batch=3, prefill_chunk=8, page=4)


@dataclass(frozen=True)
class TinyPlan:
    """A plan in a folder, with its weights beside it.

    Attributes:
        whole: the float model that it was made of.
    """

    folder: Path
    plan: LaunchPlan
    whole: WholeReference

    def executor(self, engine: Engine | None = None, pages: int = 0) -> Executor:
        """Load it: on the reference operators, with pages for all sequences, unless said."""
        engine = engine or reference_engine()
        full = self.plan.max_batch * -(-self.plan.context_length // self.plan.cache.page)
        weights = self.folder / weights_name(0, 1)
        memory = allocate(self.plan, weights, engine.device, pages or full)
        return Executor(self.plan, memory, engine)

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """What the float model goes on with."""
        return self.go_on(prompt, count, lambda logits, _: int(logits.argmax()))

    def go_on(
        self, prompt: list[int], count: int, choose: Callable[[np.ndarray, list[int]], int]
    ) -> list[int]:
        """What the float model goes on with, by what chooses from logits and all tokens."""
        tokens, new = list(prompt), list(prompt)
        self.whole.reset()
        for _ in range(count):
            new = [choose(self.whole.step(np.array([new]))[0, -1], tokens)]
            tokens += new
        return tokens[len(prompt) :]

    def logits(self, token_ids: list[int]) -> np.ndarray:
        """The float model's, float32 [len(token_ids), vocabulary]."""
        self.whole.reset()
        logits: np.ndarray = self.whole.step(np.array([token_ids]))[0]
        return logits


def written_plan(
    folder: Path,
    *,
    sizes: Sizes = SIZES,
    act: str = "fp32",
    kinds: Mapping[str, str] = {"": "float"},
    opt: int = 3,
    few: bool = True,
    **config: Any,
) -> TinyPlan:
    """Make a plan of random weights, and write both; `act` "fp32" is for the reference operators
    alone."""
    source = tiny_source(tiny_config(**config), folder / "weights.bin")
    write_source(source)
    graph = build_decoder(source, sizes.context_length)
    whole = WholeReference(build_decoder(source, sizes.context_length), threads=1)
    settings = {"act": act, "kinds": dict(kinds), "sums": opt >= 1, "ranks": 1, "rank": 0}
    lowered, _ = run_passes(graph, build_pipeline(f"cuda-{opt}", settings), graph="decoder")
    plan, weights = make_plan(lowered, sizes, act=act, kv=act, opt=opt if few else min(opt, 1))
    save_plan(replace(plan, captures=opt >= 3), folder / PLAN)
    write_weights(weights, folder / weights_name(0, 1))
    return TinyPlan(folder, load_plan(folder / PLAN), whole)


def tiny_plan(**options: Any) -> LaunchPlan:
    """The plan of a llama of two layers; no weight lies anywhere."""
    config = tiny_config(
        vocab_size=64, hidden_size=64, intermediate_size=64, head_dim=16, rope=Rope(dim=16)
    )
    settings = {
        "act": "fp16", "kv": "fp16", "kinds": {"": "float"}, "opt": 3, "max_batch": 2,
        "prefill_chunk": 32, "page": 16, "ranks": 1, **options,
    }  # fmt: skip
    return lower(build_decoder(tiny_source(config), 64), settings, 64)[0]

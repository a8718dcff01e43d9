"""Launch plans of tiny random decoders."""

from __future__ import annotations

from typing import Any

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import Rope
from modelc.pipeline.cuda_plan import lower
from modelc.targets.cuda.plan import LaunchPlan
from support.tiny_source import tiny_config, tiny_source

CONTEXT = 64


def tiny_plan(**options: Any) -> LaunchPlan:
    """The plan of a llama of two layers; no weight lies anywhere."""
    config = tiny_config(vocab_size=64, hidden_size=64, intermediate_size=64, head_dim=16,
                         rope=Rope(dim=16))  # fmt: skip
    settings = {
        "act": "fp16", "kv": "fp16", "kinds": {"": "float"}, "opt": 3, "max_batch": 2,
        "prefill_chunk": 32, "page": 16, "ranks": 1, **options,
    }  # fmt: skip
    plan, _ = lower(build_decoder(tiny_source(config), CONTEXT), settings, CONTEXT)
    return plan

"""How the steps of a Snapdragon plan run: where, with how much memory, and what is simulated."""

from __future__ import annotations

from typing import Any, Final

from modelc.pipeline.decoder_job import DecoderJob, decoder_job
from modelc.pipeline.job import Job

TOOLS: Final = ("onnxruntime", "onnxruntime-qnn")

# A decoder larger than this is not run as a whole in the simulator, which takes a second for 37
# million multiply-adds of an AR-1 graph.
SIMULATED_WEIGHTS: Final = 50_000_000
# Nor is a graph of a part that takes longer than this for one call, but for the quickest of them.
MOST_SECONDS: Final = 30.0

# The float model runs layer by layer, a few hundred megabytes each.
LAYER_MEMORY: Final = 3_000_000_000


def computes(plan: DecoderJob, memory: int) -> dict[str, Any]:
    """A large model's steps are processes of their own, whose memory is counted."""
    return {"isolated": True, "memory": memory} if plan.is_large else {}


def compiles(plan: DecoderJob, place: str) -> dict[str, Any]:
    """Steps that let a worker compile a part: several at once, as far as memory goes."""
    memory = plan.size(place).host
    return {"isolated": True, "memory": memory} if plan.is_large else {"waits": True}


def chip(plan: DecoderJob) -> dict[str, Any]:
    # By the chipset's own name: results are shared by all its aliases.
    return {
        "chipset": plan.chipset.name,
        "fp16": not plan.quantised,
        "context_length": max(plan.layout.context_lengths),
    }


def is_simulated(job: Job) -> bool:
    return decoder_job(job).weights <= SIMULATED_WEIGHTS


def has_twins(job: Job) -> bool:
    return is_simulated(job) or job.recipe.keep_twins

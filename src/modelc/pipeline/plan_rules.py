"""How the steps of a Snapdragon plan run: where, with how much memory, and what is simulated."""

from __future__ import annotations

from typing import Any, Final

from modelc.decoder.parts import DecoderPart
from modelc.pipeline.decoder_job import DecoderJob, decoder_job
from modelc.pipeline.job import Job

TOOLS: Final = ("onnxruntime", "onnxruntime-qnn")

# A graph of a part is not simulated if one call takes longer than this, but for the quickest.
MOST_SECONDS: Final = 30.0

# What the float model takes when it runs layer by layer, beside one layer's weights.
FLOAT_BASE: Final = 600_000_000


def runs_float_model(plan: DecoderJob) -> dict[str, Any]:
    """Steps that run the float model, one layer in memory at a time."""
    layers = [plan.sizes.part(DecoderPart(n, n + 1)).elements for n in range(plan.config.layers)]
    return computes(plan, FLOAT_BASE + 4 * max(layers))


def computes(plan: DecoderJob, memory: int) -> dict[str, Any]:
    """A large model's steps are processes of their own, whose memory is counted."""
    return {"isolated": True, "memory": memory} if plan.is_large else {}


def compiles(plan: DecoderJob, place: str) -> dict[str, Any]:
    """Steps that let a worker compile a part: several at once, as far as memory goes."""
    memory = plan.size(place).host
    return {"isolated": True, "memory": memory} if plan.is_large else {"waits": True}


def chip(plan: DecoderJob) -> dict[str, Any]:
    """Return what the compiler must know."""
    # By the chipset's own name: results are shared by all its aliases.
    return {"chipset": plan.chipset.name, "fp16": not plan.quantised}


def is_simulated(job: Job) -> bool:
    """Return whether the decoder is run as a whole in the simulator, which takes a second for 37
    million multiply-adds of an AR-1 graph."""
    return not decoder_job(job).is_large


def has_twins(job: Job) -> bool:
    return is_simulated(job) or job.recipe.keep_twins

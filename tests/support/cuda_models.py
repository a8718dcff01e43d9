"""Hugging Face folders and canonical graphs as launch plans that the CPU runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderModel
from modelc.decoder.expert_modules import is_router
from modelc.pipeline.cuda_plan import lower
from modelc.pipeline.module_kinds import matrix_shapes
from modelc.reference.stream import StreamedReference
from modelc.targets.cuda.plan import LaunchPlan, save_plan, weights_name
from modelc.targets.cuda.runtime import PlanRuntime, open_runtime
from modelc.targets.cuda.weights_file import write_weights

CONTEXT = 96


def options(model: DecoderModel, kind: str = "float", **changes: Any) -> dict[str, Any]:
    """Of `lower`: float32, so that only what is wrong makes a difference."""
    floats = {m: "float" for m in matrix_shapes(model) if is_router(m) or m == "lm_head"}
    chosen = {
        "act": "fp32",
        "kv": "fp32",
        "kinds": {"": kind, **floats},
        "opt": 3,
        "max_batch": 20,
        "prefill_chunk": 32,
        "page": 16,
        "ranks": 1,
        **changes,
    }
    return {"kv": chosen["act"], **chosen} if "kv" not in changes else chosen


def write_plan(model: DecoderModel, folder: Path, given: Mapping[str, Any]) -> LaunchPlan:
    """Write a launch plan and the weights of every rank."""
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(given["ranks"]):
        plan, weights = lower(build_decoder(model, CONTEXT), given, CONTEXT, rank=rank)
        write_weights(weights, folder / weights_name(rank, given["ranks"]))
    save_plan(plan, folder / "plan.json")
    return plan


def opened(
    model: DecoderModel, folder: Path, given: Mapping[str, Any], engine: str = "reference"
) -> PlanRuntime:
    """A model as its launch plan runs it."""
    write_plan(model, folder, given)
    return open_runtime({"plan": folder / "plan.json"}, {"engine": engine})


def float_logits(model: DecoderModel, tokens: list[int]) -> np.ndarray:
    """What the canonical graph computes, in ONNX Runtime."""
    return StreamedReference(build_decoder(model, CONTEXT)).logits(tokens)


def decibels(measured: np.ndarray, expected: np.ndarray) -> float:
    """Signal to noise."""
    noise = np.square(measured - expected, dtype=np.float64).sum()
    signal = np.square(expected, dtype=np.float64).sum()
    return float(10 * np.log10(signal / noise)) if noise else np.inf

"""Samples of the float model's own tensors, on which compiled parts are tried one by one."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.ir.arrays import save_arrays
from modelc.pipeline.job import CALIBRATION_TEXT
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import canonical_graph, text_tokens

SAMPLES: Final = "samples.npz"
SAMPLE_TOKENS: Final = 48

# What crosses between parts, and what a layer reads of earlier tokens.
_KEPT: Final = re.compile(
    r"model\.embed_tokens(\.scaled)?|model\.layers\.\d+|present\.\d+\.(key|value)"
    r"|logits"
)


def run_samples(context: StepContext) -> None:
    """Run the float model on the beginning of the calibration text: samples.npz with `token_ids`
    int32 [n] and, by canonical name, float32 hidden states, keys, values and logits.

    Options: tokens (at most).
    """
    from modelc.passes.base import run_passes
    from modelc.passes.pipelines import build_pipeline
    from modelc.reference.stream import StreamedReference

    tokens = text_tokens(context, CALIBRATION_TEXT)[: context.options["tokens"]]
    if len(tokens) < 2:
        raise BadInput(
            "the calibration text has fewer than two tokens",
            where=Where(path=str(context.sources[CALIBRATION_TEXT])),
        )
    graph, _ = run_passes(canonical_graph(context), build_pipeline("expanded", {}), graph="decoder")
    kept: dict[str, np.ndarray] = {"token_ids": np.asarray(tokens, np.int32)}

    def keep(name: str, values: np.ndarray) -> None:
        if _KEPT.fullmatch(name):
            kept[name] = values.copy()

    StreamedReference(graph).observe([tokens], keep)
    save_arrays(context.out / SAMPLES, kept)

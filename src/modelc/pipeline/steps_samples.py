"""Samples of the float model's own tensors, on which compiled parts are tried one by one."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from modelc.bundle.tokenizer import load_tokenizer
from modelc.errors import BadInput, Where
from modelc.ir.arrays import save_arrays
from modelc.pipeline.job import CALIBRATION_DATA, CALIBRATION_TEXT
from modelc.pipeline.step import StepContext
from modelc.pipeline.steps import read_facts, text_tokens
from modelc.pipeline.steps_calibrate import expanded_graph

SAMPLES: Final = "samples.npz"
SAMPLE_TOKENS: Final = 48
_ROWS: Final = 16  # of data, of which the longest is taken

# What crosses between parts, and what a layer reads of earlier tokens.
_KEPT: Final = re.compile(
    r"model\.embed_tokens(\.scaled)?|model\.layers\.\d+|present\.\d+\.(key|value)"
    r"|logits"
)


def run_samples(context: StepContext) -> None:
    """Run the float model on the beginning of the calibration samples: samples.npz with `token_ids`
    int32 [n] and, by canonical name, float32 hidden states, keys, values and logits.

    Options: tokens (at most).
    """
    from modelc.reference.stream import StreamedReference

    tokens = _first_tokens(context, context.options["tokens"])
    graph = expanded_graph(context)
    kept: dict[str, np.ndarray] = {"token_ids": np.asarray(tokens, np.int32)}

    def keep(name: str, values: np.ndarray) -> None:
        if _KEPT.fullmatch(name):
            kept[name] = values.copy()

    StreamedReference(graph).observe([tokens], keep)
    save_arrays(context.out / SAMPLES, kept)


def _first_tokens(context: StepContext, most: int) -> list[int]:
    """Return the beginning of the text, or of a row of the data, at least two tokens."""
    from modelc.quant.samples import pick_rows

    if CALIBRATION_DATA in context.sources:
        path = context.sources[CALIBRATION_DATA]
        tokenizer = load_tokenizer(context.inputs["import"])
        rows = pick_rows(path, tokenizer, read_facts(context)["vocab_size"], _ROWS, most)
        tokens = max(rows, key=len)
    else:
        path = context.sources[CALIBRATION_TEXT]
        tokens = text_tokens(context, CALIBRATION_TEXT)[:most]
    if len(tokens) < 2:
        raise BadInput("fewer than two tokens to calibrate on", where=Where(path=str(path)))
    return tokens

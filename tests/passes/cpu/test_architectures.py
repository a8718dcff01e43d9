"""Every kind of decoder keeps its logits through the CPU's passes, prefill and decode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.lowered import Lowered
from support.random_models import CONTEXT, VOCAB, make
from support.whole_reference import WholeReference

from modelc.decoder.builder import build_decoder
from modelc.frontends import read_source
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline

# One of each structure; what differs in numbers alone is in the canonical graph's tests.
IDS = [
    "llama-bias",
    "llama-tied",
    "llama-longrope-attention_factor",
    "mistral",
    "qwen2",
    "qwen3-window",
    "gemma2",
    "phi3-window",
    "phi3-partial-longrope",
    "mixtral",
    "qwen2_moe-some_layers",
    "qwen3_moe",
]


@pytest.mark.parametrize("identity", IDS)
def test_logits_agree(identity: str, tmp_path: Path) -> None:
    source = read_source(make(identity, tmp_path / "model"))
    passes = build_pipeline("cpu", {"weights": "float"})
    model, _ = run_passes(build_decoder(source, CONTEXT), passes, graph="test")
    tokens = np.random.default_rng(0).integers(0, VOCAB, 60)
    expected = WholeReference(build_decoder(source, CONTEXT)).step(tokens[None])[0]
    lowered = Lowered(model, tmp_path)
    chunks = np.split(tokens, [30, 50, 58, 59])
    found = np.concatenate([lowered.step(chunk) for chunk in chunks])
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()

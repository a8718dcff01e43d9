"""The simulator computes what the simulation on the CPU computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.htp_decoder import ROWS, choose_encodings

from modelc.decoder.builder import build_decoder
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline
from modelc.reference.stream import StreamedReference
from modelc.verify.metrics import sqnr_db

pytest.importorskip("onnxruntime_qnn", reason="the simulator is not here")
pytestmark = pytest.mark.simulator

TOKENS = np.random.default_rng(5).integers(3, 384, 32).tolist()[:21]


def test_logits(tiny: Callable[[str], Any], tmp_path: Path) -> None:
    """As close as ONNX Runtime comes to it with HTP's own graphs: random weights of 64 channels
    leave little to average HTP's arithmetic out; a trained model has 15 dB more."""
    made = tiny("w8a16")
    source, context = made.lowered.source, made.lowered.context
    kinds = {"model": "w8", "lm_head": "w8", "model.embed_tokens": "w16"}
    known = choose_encodings(source, context, ROWS["w8a16"])
    passes = build_pipeline("simulated", {"encodings": known, "weights": kinds})
    model, _ = run_passes(build_decoder(source, context), passes, graph="simulated")
    simulated = StreamedReference(model).logits(TOKENS)
    on_htp, on_cpu = made.simulator().logits(TOKENS), made.lowered.on_cpu(TOKENS, tmp_path)
    assert sqnr_db(on_htp, simulated) > max(35, sqnr_db(on_htp, on_cpu) - 1)
    assert sqnr_db(on_cpu, simulated) > 45

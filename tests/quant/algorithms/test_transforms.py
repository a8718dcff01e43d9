"""Transforms leave the float model what it is, whatever the architecture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import random_models
from support.rewritten import forms_of, with_weights, worked

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import DecoderModel
from modelc.errors import BadInput
from modelc.frontends import read_model
from modelc.quant.algorithms.awq import Awq
from modelc.quant.algorithms.equalise import Equalise
from modelc.quant.algorithms.layer import Algorithm
from modelc.quant.algorithms.rotate import Rotate
from modelc.quant.algorithms.smooth import Smooth
from modelc.reference.stream import StreamedReference
from modelc.verify.metrics import sqnr_db

CONTEXT = 64
PLAIN = ["llama-bias", "llama-tied", "llama-mha", "mistral", "qwen2", "qwen3", "phi3-partial"]
EXPERTS = ["mixtral", "qwen2_moe-some_layers", "qwen3_moe"]
TRANSFORMS = {
    "rotate": Rotate(),
    "smooth": Smooth(alpha=0.7),
    "awq": Awq(steps=2, clip=False),  # a clipped matrix is another one
    "equalise": Equalise(),
}
# One after the other where norms, biases, shared tables or experts get in each other's way.
TOGETHER = ["llama-bias", "llama-tied", "qwen3", "qwen2_moe-some_layers", "gemma2"]
CASES = [
    *((identity, name) for identity in (*PLAIN, *EXPERTS, "gemma2") for name in TRANSFORMS),
    *((identity, "rotate smooth") for identity in TOGETHER),
    *((identity, "smooth awq equalise") for identity in TOGETHER),
]
SAMPLES = [[int(t) for t in np.random.default_rng(seed).integers(0, 300, 40)] for seed in (0, 1)]

Made = tuple[DecoderModel, ir.Model, np.ndarray]


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A model, its graph, and its logits."""
    folder = random_models.make(request.param, tmp_path_factory.mktemp(request.param))
    model = read_model(folder)
    graph = build_decoder(model, CONTEXT)
    return model, graph, StreamedReference(graph).logits(SAMPLES[0])


@pytest.mark.parametrize(("made", "names"), CASES, indirect=["made"])
def test_the_float_model_stays(made: Made, names: str, tmp_path: Path) -> None:
    model, graph, wanted = made
    chosen: list[Algorithm] = [TRANSFORMS[name] for name in names.split()]
    if model.config.architecture == "gemma2" and "rotate" in names:
        with pytest.raises(BadInput, match="can't be rotated"):
            chosen[0].check(model.config)
        return
    changed = worked(graph, model, chosen, forms_of(model, "w4_b32", head="w4"), SAMPLES)
    assert changed, "nothing was done"
    found = StreamedReference(with_weights(graph, changed, tmp_path)).logits(SAMPLES[0])
    assert sqnr_db(wanted, found) > 100

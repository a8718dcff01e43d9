"""Experts that few calibration tokens go to, and none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.random_models import make
from support.rewritten import forms_of

from modelc.decoder.builder import build_decoder
from modelc.frontends import read_model
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.algorithms.choose import choose_algorithms
from modelc.quant.algorithms.layer import UNREACHED, Floats, Layer
from modelc.quant.algorithms.walk import walk

TOKENS = [[5, 17]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("qwen2_moe", tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("names", [
    ["gptq"], ["seqmse"], ["weighted_mse"], ["adaround"], ["awq", "mse"], ["smooth", "gptq"],
    ["rotate", "gptq"], ["equalise", "nearest", "bias_correction"],
])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_nothing_is_known_of_an_expert(names: list[str], folder: Path) -> None:
    model = read_model(folder)
    layers: list[Layer] = []

    def finish(layer: Layer, _: Mapping[str, Floats], __: object) -> None:
        layers.append(layer)

    forms = forms_of(model, "w4_b32")
    options = {"awq.steps": 2, "awq.clip": True, "adaround.iterations": 5}
    options = {key: value for key, value in options.items() if key.split(".")[0] in names}
    algorithms = choose_algorithms(names, options)
    walk(build_decoder(model, 16), model.config, algorithms, forms, TOKENS, finish)
    told = {
        module
        for layer in layers
        for module, notes in layer.notes.items()
        if notes.get(UNREACHED) == 0
    }
    assert told, "the tokens leave no expert idle: choose others"
    for layer in (one for one in layers if one.is_decoder_layer):
        assert layer.coded.keys() == layer.forms.keys()
        assert f"{layer.name}.mlp.gate" not in layer.coded
        for module, coded in layer.coded.items():
            weights = layer.weights[f"{module}.weight"]
            plain = dequantise_rows(quantise_rows(weights, KINDS["w4_b32"]))
            lost, least = (np.square(weights - w).sum() for w in (dequantise_rows(coded), plain))
            # What no token went to is rounded for its own sake.
            assert lost < (1.4 if module in told else 10) * least, module

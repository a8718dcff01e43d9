"""Configurations that Genie itself takes, and that say what the model is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_source import tiny_config

from modelc.decoder.config import DecoderConfig, Rope
from modelc.decoder.rope import rope_tables
from modelc.errors import BadInput
from modelc.targets.runtime import Sampling
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.genie import check_genie_config
from modelc.targets.snapdragon.genie_config import (
    GenieModel,
    extension_config,
    genie_config,
    genie_model,
    positional_encoding,
    sampler_config,
)
from modelc.targets.snapdragon.rotary import rotary_of

CONTEXT = 128
ORIGINAL = {"original_context": 32}
ROPES = {
    "none": Rope(dim=8, theta=5e5),
    "partial": Rope(dim=4),
    "linear": Rope("linear", dim=8, factor=4.0),
    "llama3": Rope("llama3", dim=8, factor=8.0, **ORIGINAL),
    "yarn": Rope("yarn", dim=8, factor=4.0, **ORIGINAL),
    "less attention": Rope("yarn", dim=8, factor=4.0, attention_factor=0.7, **ORIGINAL),
    "longrope": Rope(
        "longrope",
        dim=8,
        short_factors=(1.0, 1.1, 1.2, 1.3),
        long_factors=(1.5, 2.0, 3.0, 4.0),
        **ORIGINAL,
    ),
}


def config_of(rope: Rope) -> DecoderConfig:
    return tiny_config(rope=rope, max_context=CONTEXT)


def model_of(rope: Rope = ROPES["none"], **changes: Any) -> GenieModel:
    model = genie_model(
        config_of(rope), context_length=CONTEXT, binaries=("a.bin",), eos_ids=(2, 3), bos_id=1
    )
    return replace(model, **changes)


def llama3_angles(angles: np.ndarray, scaling: Mapping[str, Any]) -> np.ndarray:
    """The formula of Llama 3's `rope_scaling` in Hugging Face's transformers."""
    original = scaling["original-max-position-embeddings"]
    low, high = scaling["low-freq-factor"], scaling["high-freq-factor"]
    turns = original * angles / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return angles * (smooth + (1 - smooth) / scaling["factor"])


def tables_of(encoding: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin as Genie makes them of its configuration, float64 [CONTEXT, rope-dim]."""
    pairs, scaling = encoding["rope-dim"], encoding.get("rope-scaling")
    angles = encoding["rope-theta"] ** (-np.arange(pairs) / pairs)
    attention = 1.0
    if scaling and scaling["rope-type"] == "llama3":
        angles = llama3_angles(angles, scaling)
    elif scaling:
        assert scaling["rope-type"] == "longrope"
        original = scaling["original-max-position-embeddings"]
        angles /= np.array(scaling["long-factor" if original < CONTEXT else "short-factor"])
        attention = math.sqrt(1 + math.log(scaling["factor"]) / math.log(original))
    grid = np.arange(CONTEXT)[:, None] * angles
    return attention * np.cos(grid), attention * np.sin(grid)


@pytest.mark.parametrize("kind", ROPES)
def test_the_rope_is_the_models(kind: str) -> None:
    rope = ROPES[kind]
    encoding = positional_encoding(model_of(rope))
    assert ("rope-scaling" in encoding) == (kind not in ("none", "partial"))
    for found, expected in zip(
        tables_of(encoding), rope_tables(rope, CONTEXT, CONTEXT), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ROPES)
def test_rotary_tables_are_the_decoders(kind: str) -> None:
    made = rotary_of(config_of(ROPES[kind]), CONTEXT).tables(np.arange(CONTEXT))
    for found, expected in zip(made, rope_tables(ROPES[kind], CONTEXT, CONTEXT), strict=True):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_what_is_said_of_the_model() -> None:
    dialog = genie_config(model_of(pad_id=0), max_new_tokens=7, stop_sequences=["end"])["dialog"]
    assert dialog["context"] == {
        "version": 1,
        "size": CONTEXT,
        "n-vocab": 40,
        "bos-token": 1,
        "eos-token": [2, 3],
        "pad-token": 0,
    }
    assert dialog["engine"]["backend"]["QnnHtp"]["kv-dim"] == 8
    assert dialog["engine"]["model"]["binary"]["ctx-bins"] == ["a.bin"]
    assert (dialog["max-num-tokens"], dialog["stop-sequence"]) == (7, ["end"])
    assert genie_config(model_of(bos_id=None))["dialog"]["context"]["bos-token"] == -1


@pytest.mark.parametrize("eos_ids", [(), (-1,), (2, -1)])
def test_genie_needs_real_eos_tokens(eos_ids: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="end-of-sequence"):
        genie_config(model_of(eos_ids=eos_ids))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), {"temp": 1.0, "top-k": 1, "top-p": 1.0, "greedy": True}),
        (Sampling(0.0, 40, 0.5), {"temp": 1.0, "top-k": 1, "top-p": 1.0, "greedy": True}),
        (Sampling(0.8), {"temp": 0.8, "top-k": 40, "top-p": 1.0, "greedy": False}),
        (Sampling(0.8, 5, 0.9, seed=3), {"seed": 3, "temp": 0.8, "top-k": 5, "top-p": 0.9}),
        (
            Sampling(repetition_penalty=1.3),
            {"token-penalty": {"version": 1, "repetition-penalty": 1.3, "penalize-last-n": 128}},
        ),
    ],
)
def test_sampler(sampling: Sampling, expected: dict[str, Any]) -> None:
    config = sampler_config(sampling, model_of())
    assert {key: config.get(key) for key in expected} == expected
    assert ("token-penalty" in config) == (sampling.repetition_penalty != 1.0)


def test_a_seed_that_genie_has_no_room_for() -> None:
    with pytest.raises(BadInput, match="seed is from 0 to 2147483647"):
        sampler_config(Sampling(seed=2**31), model_of())


def test_extension_names_the_soc_only() -> None:
    config = extension_config(find_chipset("sm8450"))
    assert config["devices"][0]["soc_model"] == 36
    assert "dsp_arch" not in config["devices"][0]
    assert config["context"] == {"weight_sharing_enabled": False}


@pytest.mark.simulator
class TestGenieItself:
    """What libGenie says."""

    @pytest.fixture(autouse=True)
    def _needs_genie(self) -> None:
        pytest.importorskip("onnxruntime_qnn", reason="Genie is not here")

    @pytest.mark.parametrize("kind", ["none", "llama3", "yarn", "longrope"])
    def test_it_takes_the_configuration(self, kind: str, tmp_path: Path) -> None:
        model = model_of(ROPES[kind], pad_id=0, eos_ids=(2, 3, 5))
        sampling = Sampling(1.0, 40, 0.9, 1.1, 5)
        config = genie_config(model, sampling, max_new_tokens=9, stop_sequences=["end"])
        check_genie_config(config, workdir=tmp_path)

    @pytest.mark.parametrize("block", ["dialog", "context", "sampler"])
    def test_it_knows_every_key(self, block: str, tmp_path: Path) -> None:
        config = genie_config(model_of())
        target = config["dialog"] if block == "dialog" else config["dialog"][block]
        target["colour"] = 1
        with pytest.raises(BadInput, match=r"rejects its configuration \(status -8\)") as caught:
            check_genie_config(config, workdir=tmp_path)
        assert "colour" in caught.value.message

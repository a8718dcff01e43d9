"""The architectures that differ most, from the source to Genie's tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import random_models
from support.htp_decoder import CHIPSET, lower

from modelc.frontends import read_source
from modelc.targets.runtime import Sampling
from modelc.targets.snapdragon.chipsets import find_chipset
from modelc.targets.snapdragon.genie import Genie
from modelc.targets.snapdragon.genie_config import genie_model
from modelc.targets.snapdragon.rotary import rotary_of
from modelc.targets.snapdragon.simulate import Simulator
from modelc.verify.metrics import sqnr_db

pytest.importorskip("onnxruntime_qnn", reason="the simulator is not here")
pytestmark = pytest.mark.simulator

# Contexts that no window is shorter than, and that need longrope's long factors.
ROWS = [
    ("gemma2", "w8a16", 12, 25),
    ("qwen3", "fp16", 32, 40),
    ("phi3-longrope", "w8a16", 96, 24),
]


@pytest.mark.parametrize(("identity", "scheme", "context", "least_db"), ROWS)
def test_against_the_float_model(
    identity: str, scheme: str, context: int, least_db: float, tmp_path: Path
) -> None:
    source = read_source(random_models.make(identity, tmp_path / "hf"))
    lowered = lower(source, context, scheme, tmp_path / "lowered")
    wrappers = lowered.twins(tmp_path / "twins")
    rotary = rotary_of(source.config, context)
    simulator = Simulator(wrappers, rotary, workdir=tmp_path / "simulator", timeout_s=120)
    tokens = np.random.default_rng(7).integers(3, 360, min(context, 20)).tolist()
    found = simulator.logits(tokens)
    assert sqnr_db(lowered.reference(tokens), found) > least_db
    assert sqnr_db(lowered.on_cpu(tokens, tmp_path), found) > 33
    genie = Genie(
        genie_model(source.config, context_length=context, binaries=(), eos_ids=(1,)),
        find_chipset(CHIPSET),
        [wrapper.with_suffix(".bin") for wrapper in wrappers],
        tmp_path / "hf" / "tokenizer.json",
        workdir=tmp_path / "genie",
        timeout_s=120,
    )
    # Logits of which none is far ahead: a difference in one tensor would show.
    expected = simulator.generate(tokens[:4], Sampling(), 6, (1,)).token_ids
    assert genie.generate(tokens[:4], Sampling(), 6, (1,)).token_ids == expected

"""The simulator computes what ONNX Runtime computes of the same graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelc.errors import BadInput, ToolFailed
from modelc.targets.runtime import Sampling
from modelc.targets.snapdragon.rotary import Rotary
from modelc.targets.snapdragon.simulate import Simulator
from modelc.verify.metrics import sqnr_db

pytest.importorskip("onnxruntime_qnn", reason="the simulator is not here")
pytestmark = pytest.mark.simulator

TOKENS = np.random.default_rng(5).integers(3, 384, 32).tolist()


@pytest.mark.parametrize(("scheme", "same", "true"), [("w8a16", 35, 24), ("fp16", 45, 45)])
def test_logits(
    scheme: str, same: float, true: float, tiny: Callable[[str], Any], tmp_path: Path
) -> None:
    made = tiny(scheme)
    found = made.simulator().logits(TOKENS[:21])
    assert found.dtype == np.float32
    assert sqnr_db(made.lowered.on_cpu(TOKENS[:21], tmp_path), found) > same
    assert sqnr_db(made.lowered.reference(TOKENS[:21]), found) > true


def test_generation_goes_on_from_the_logits(tiny: Callable[[str], Any]) -> None:
    simulator, seen = tiny("w8a16").simulator(), list[int]()
    made = simulator.generate(TOKENS[:9], Sampling(), 4, (), seen.append)
    assert seen == list(made.token_ids)
    assert (made.prompt_tokens, len(made.token_ids)) == (9, 4)
    assert made.prefill_seconds > 0 and made.decode_seconds > 0
    logits = simulator.logits([*TOKENS[:9], *made.token_ids])
    assert logits[8:-1].argmax(1).tolist() == list(made.token_ids)
    stopped = simulator.generate(TOKENS[:9], Sampling(), 4, [made.token_ids[2]])
    assert stopped.token_ids == made.token_ids[: made.token_ids.index(made.token_ids[2])]


def test_a_seed_repeats(tiny: Callable[[str], Any]) -> None:
    simulator = tiny("w8a16").simulator()
    draws = [
        simulator.generate(TOKENS[:9], Sampling(2.0, top_k=50, seed=seed), 8, ()).token_ids
        for seed in (3, 3, 4)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_limits(tiny: Callable[[str], Any]) -> None:
    simulator = tiny("w8a16").simulator()
    for call in (simulator.logits, lambda ids: simulator.generate(ids, Sampling(), 1, ())):
        with pytest.raises(BadInput, match="has no tokens"):
            call([])
        with pytest.raises(BadInput, match="context of 32 tokens is full"):
            call([*TOKENS, 5])
    assert simulator.logits(TOKENS).shape == (32, 384)
    with pytest.raises(ToolFailed, match="was stopped after"):
        tiny("w8a16").simulator(timeout_s=0.01).logits(TOKENS)


def test_all_twins_are_needed(tmp_path: Path) -> None:
    wrappers = [tmp_path / "token_ar1_cl32_2_of_2.onnx"]
    with pytest.raises(BadInput, match="not every part of every AR length"):
        Simulator(wrappers, Rotary((1.0,)), workdir=tmp_path, timeout_s=1)

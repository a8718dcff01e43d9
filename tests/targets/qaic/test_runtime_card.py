"""The card's engine on a double of its runtime: the loop's numbers, states that stay there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.card import CONTEXT, assert_close, reference, write_card_graph
from support.qaicrt_double import Card, install
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.errors import ModelcError
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.runtime import CardRuntime, open_runtime
from modelc.targets.runtime import Sampling

PROMPTS = [[*np.random.default_rng(n).integers(0, 40, 7 + 6 * n)] for n in range(3)]
SETTINGS = {
    "context_length": CONTEXT,
    "prefill_seq_len": 8,
    "sequences": 2,
    "continuous_batching": True,
}


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    source = tiny_source(tiny_config(), tmp_path / "weights.bin")
    write_weights(source)
    folder = tmp_path / "qpc"
    folder.mkdir()
    write_card_graph(source, folder, continuous_batching=True)
    (folder / "programqpc.bin").write_bytes(b"")
    return folder


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, card: Card) -> CardRuntime:
    install(monkeypatch, card)
    return open_runtime({"qpc": folder}, {**SETTINGS, "devices": [0, 1]})


def test_the_same_loop(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(CallShapes(CONTEXT, 8, 2, True), [(1, 8), (2, 1)])
    runtime = opened(compiled, monkeypatch, card)
    assert runtime.name == "qaicrt" and card.active
    source = tiny_source(tiny_config(), compiled.parent / "weights.bin")
    assert_close(runtime.logits(PROMPTS[1]), reference(source, PROMPTS[1]))
    assert set(card.calls) == {(2, 1)}
    expected = open_runtime({"model": compiled / "model.onnx"}, {**SETTINGS, "threads": 1})
    own = expected.generate_all(PROMPTS, Sampling(), 5, ())
    found = runtime.generate_all(PROMPTS, Sampling(), 5, ())
    assert [row.token_ids for row in found] == [row.token_ids for row in own]
    assert set(card.calls) == {(1, 8), (2, 1)}
    runtime.close()
    assert not card.active


def test_sizes_that_were_not_compiled(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(CallShapes(CONTEXT, 8, 2, True), [(1, 8)])
    runtime = opened(compiled, monkeypatch, card)
    with pytest.raises(ModelcError, match="no specialisation has these sizes"):
        runtime.logits(PROMPTS[0])

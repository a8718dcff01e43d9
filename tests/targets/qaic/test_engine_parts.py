"""A card's graph run layer by layer gives what the whole one gives: the reference's logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.card import CONTEXT, assert_close, reference, write_card_graph
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.config import DecoderModel
from modelc.targets.qaic.engine import CallShapes
from modelc.targets.qaic.engine_parts import PartsEngine
from modelc.targets.qaic.runtime import open_runtime
from modelc.targets.runtime import Sampling

TOKENS = [*np.random.default_rng(7).integers(0, 40, 21)]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"continuous_batching": True},
    {"num_logits_to_keep": True, "comp_ctx_lengths": True},
    {"max_top_k": 12, "continuous_batching": True},
]


@pytest.fixture
def source(tmp_path: Path) -> DecoderModel:
    made = tiny_source(tiny_config(windows=(0, 7)), tmp_path / "weights.bin")
    write_weights(made)
    return made


@pytest.mark.parametrize("options", VARIANTS, ids=lambda row: "+".join(row) or "plain")
def test_every_contract(options: dict[str, Any], source: DecoderModel, tmp_path: Path) -> None:
    path = write_card_graph(source, tmp_path, **options)
    settings = {"context_length": CONTEXT, "prefill_seq_len": 8, "threads": 1, **options}
    settings["sequences"] = 2
    runtime = open_runtime({"parts": path}, settings)
    logits = runtime.logits(TOKENS)
    assert_close(logits, reference(source, TOKENS))
    assert all(finding.passed for finding in runtime.findings(TOKENS, logits))
    assert not runtime.findings(TOKENS, logits[::-1])[0].passed
    if not options.get("max_top_k"):
        whole = open_runtime({"model": path}, settings)
        made, expected = (
            each.generate(TOKENS, Sampling(), 5, ()).token_ids for each in (runtime, whole)
        )
        assert made == expected
    runtime.close()


def test_each_part_has_its_own_weights(source: DecoderModel, tmp_path: Path) -> None:
    path = write_card_graph(source, tmp_path)
    engine = PartsEngine(path, CallShapes(8))
    held = [{*part.graph.initializers} for part in engine._parts]
    layers = [{n for n in names if n.startswith("model.layers.")} for names in held]
    assert sum(map(bool, layers)) == source.config.layers
    assert not any(one & other for i, one in enumerate(layers) for other in layers[:i])

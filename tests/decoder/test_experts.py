"""The graph of a mixture of experts: what a token goes through, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_source import tiny_config, tiny_source, write_weights

from modelc.decoder.builder import build_decoder
from modelc.decoder.check import check_config, check_source
from modelc.decoder.config import DecoderConfig, Experts, load_config, save_config
from modelc.decoder.expert_modules import routed_sizes
from modelc.decoder.parameters import count_parameters
from modelc.errors import BadInput
from modelc.ir.provenance import module_of
from modelc.reference.parts import cut_at_layers
from modelc.reference.session import Session, empty_caches
from modelc.reference.stream import all_outputs

EXPERTS = Experts(count=5, used=2, hidden=24, layers=(1,), shared_hidden=16)
MLP = "model.layers.1.mlp"
CHOSEN = f"{MLP}.chosen"


def config(experts: Experts = EXPERTS, **changes: Any) -> DecoderConfig:
    return tiny_config(architecture="qwen2_moe", experts=experts, **changes)


def test_only_the_tokens_of_an_expert_go_through_it(tmp_path: Path) -> None:
    source = tiny_source(config(), tmp_path / "weights.bin")
    write_weights(source)
    model = build_decoder(source, 16)
    seen: dict[str, np.ndarray] = {
        "input_ids": np.array([[3, 9, 27]]),
        "position_ids": np.arange(3)[None],
        **empty_caches(model, 1),
    }
    for part in cut_at_layers(model):
        part = all_outputs(part)
        chosen = (value for node in part.graph for value in node.outputs if value.name == CHOSEN)
        part.graph.outputs.extend(chosen)
        seen |= Session(part).run(seen)
    shares = np.zeros((3, 5), np.float32)
    np.put_along_axis(shares, seen[CHOSEN][0], seen[f"{MLP}.shares"][0], axis=1)
    chances = seen[f"{MLP}.probabilities"][0]
    kept = np.where(chances >= np.sort(chances)[:, [-2]], chances, 0)
    np.testing.assert_allclose(shares, kept / kept.sum(-1, keepdims=True), rtol=1e-6)
    counts = (shares > 0).sum(axis=0)
    assert 0 in counts, "the tokens leave no expert idle: choose others"
    tokens = seen["model.layers.1.post_attention_layernorm"][0]
    total = np.zeros_like(tokens)
    for expert in range(5):
        module, mine = f"{MLP}.experts.{expert}", shares[:, expert] > 0
        np.testing.assert_array_equal(seen[f"{module}.rows"], tokens[mine])
        assert seen[f"{module}.product"].shape == (counts[expert], 24)
        total[mine] += shares[mine, expert, None] * seen[f"{module}.down_proj"]
    np.testing.assert_allclose(seen[f"{MLP}.routed"][0], total, rtol=1e-5, atol=1e-5)


def test_sizes_of_what_is_routed_are_all_known() -> None:
    model = build_decoder(tiny_source(config()), 16)
    known = {"batch": 1, "sequence": 6, "past": 0, **routed_sizes(config(), 6)}
    for node in model.graph:
        assert module_of(node)
        for value in node.outputs:
            assert value.shape is not None
            assert all(isinstance(dim, int) for dim in value.shape.evaluate(known)), value.name


def test_parameters_of_a_token() -> None:
    source = tiny_source(config())
    counted = count_parameters(source)
    assert counted.total - counted.active == 3 * (3 * 32 * 24)
    assert count_parameters(tiny_source(tiny_config())).active == 2 * (
        32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48 + 2 * 32
    ) + 32 * (2 * 40 + 1)


def test_configurations_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for written in (config(), tiny_config()):
        save_config(written, path)
        assert load_config(path) == written
    older = json.loads(path.read_text())
    del older["experts"]
    path.write_text(json.dumps(older))
    assert load_config(path) == tiny_config()


@pytest.mark.parametrize("changes", [
    {"used": 0}, {"used": 6}, {"hidden": 0}, {"shared_hidden": -1}, {"layers": (2,)},
    {"layers": (1, 0)}, {"layers": (1, 1)}, {"layers": (-1,)},
])  # fmt: skip
def test_experts_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="makes no sense: Experts"):
        check_config(config(replace(EXPERTS, **changes)))


def test_experts_where_there_are_none() -> None:
    with pytest.raises(BadInput, match="makes no sense: experts in llama"):
        check_config(tiny_config(experts=EXPERTS))


def test_weights_that_are_missing_or_said_to_be_many() -> None:
    source = tiny_source(config())
    name = f"{MLP}.experts.4.up_proj.weight"
    rest = {key: value for key, value in source.weights.items() if key != name}
    with pytest.raises(BadInput, match=f"no weight {name}"):
        check_source(replace(source, weights=rest))
    many = config(replace(EXPERTS, count=1 << 40))
    with pytest.raises(BadInput, match="1099511627776 experts, but the source has"):
        check_source(replace(source, config=many))

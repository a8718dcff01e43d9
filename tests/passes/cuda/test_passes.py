"""Each pass of CUDA: golden pair. The numbers of the whole are held against the canonical graph
where a launch plan runs (tests/targets/cuda)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.golden import check_golden
from support.tiny_source import tiny_config, tiny_source

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import Experts, Rope
from modelc.errors import BadInput
from modelc.ir.text import to_text
from modelc.passes.base import run_passes
from modelc.passes.pipelines import build_pipeline

GOLDEN = Path(__file__).parent / "golden"
KINDS = {"": "w4_b32", "lm_head": "float", "model.layers.0.self_attn.o_proj": "e4m3"}
SETTINGS = {"act": "bf16", "kinds": KINDS, "ranks": 2, "rank": 1}
PASSES = build_pipeline("cuda-3", SETTINGS)
NAMES = [step.name for step in PASSES]
OF_EXPERTS = {"fuse_experts", "fuse_shared_expert"}
SIZES = {
    "architecture": "gemma2",
    "activation": "gelu_tanh",
    "hidden_size": 64,
    "intermediate_size": 128,
    "head_dim": 16,
    "rope": Rope(dim=16),
    "layers": 1,
    "embedding_scale": 8.0,
    "logit_softcap": 30.0,
}


@pytest.mark.parametrize("name", ["canonical", *(n for n in NAMES if n not in OF_EXPERTS)])
def test_golden_text_after(name: str) -> None:
    """The text after one pass is the text before the next."""
    canonical = build_decoder(tiny_source(tiny_config(**SIZES), biases=True), context_length=32)
    passes = PASSES[: ["canonical", *NAMES].index(name)]
    model, records = run_passes(canonical, passes, graph="test")
    check_golden(GOLDEN / f"{name}.txt", to_text(model))
    assert {record.name for record in records if not record.changed} <= OF_EXPERTS


@pytest.mark.parametrize("name", ["fuse_experts", "fuse_shared_expert", "pack_linears"])
def test_golden_text_of_experts_after(name: str) -> None:
    experts = Experts(count=4, used=2, hidden=32, layers=(0,), normalise=False, shared_hidden=32)
    config = tiny_config(architecture="qwen2_moe", hidden_size=32, layers=1, experts=experts)
    kinds = {"": "w4_b32", "lm_head": "float", "model.layers.0.mlp.gate": "float",
             "model.layers.0.mlp.shared_expert_gate": "float"}  # fmt: skip
    passes = build_pipeline("cuda-3", {"act": "fp16", "kinds": kinds})
    until = NAMES.index(name) + 1
    model, records = run_passes(
        build_decoder(tiny_source(config), 32), passes[:until], graph="test"
    )
    check_golden(GOLDEN / f"experts.{name}.txt", to_text(model))
    assert records[NAMES.index(name)].changed


def test_layers_of_different_kinds_stay_apart() -> None:
    kinds = {"": "w4_b32", "lm_head": "float", "model.layers.0.self_attn.v_proj": "e4m3"}
    passes = build_pipeline("cuda-3", {"act": "bf16", "kinds": kinds})
    source = tiny_source(tiny_config(hidden_size=64, intermediate_size=96, layers=1))
    text = to_text(run_passes(build_decoder(source, 32), passes, graph="test")[0])
    assert "= Concat<axis=-1>(%model.layers.0.self_attn.q_proj" in text
    assert "gate_proj+up_proj.weight.codes" in text


def test_a_kind_without_kernels_is_refused() -> None:
    passes = build_pipeline("cuda-3", {"act": "bf16", "kinds": {"": "w2_b32"}})
    with pytest.raises(BadInput, match="no kernel reads int2") as caught:
        run_passes(build_decoder(tiny_source(tiny_config()), 32), passes, graph="test")
    assert "w4_b32" in caught.value.hint


def test_inputs_that_are_no_whole_blocks_are_refused() -> None:
    passes = build_pipeline("cuda-3", {"act": "bf16", "kinds": {"": "w4_b32"}})
    with pytest.raises(BadInput, match="48 inputs are no whole number of blocks of 32"):
        run_passes(build_decoder(tiny_source(tiny_config()), 32), passes, graph="test")

"""ExpandComposites: golden pair, equal numbers, refused forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support.golden import check_golden
from support.tiny_source import tiny_config, tiny_source, write_weights
from support.whole_reference import WholeReference

from modelc.decoder.builder import build_decoder
from modelc.decoder.config import Rope
from modelc.errors import ModelcError
from modelc.ir.text import to_text
from modelc.passes.base import run_passes
from modelc.passes.expand import ExpandComposites

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = {
    "grouped": {},
    "one key head": {"kv_heads": 1},
    "no groups": {"kv_heads": 4},
    "softcap": {"attention_softcap": 1.5, "attention_scale": 0.9},
    "window": {"windows": (0, 3)},
    "partial rope": {"rope": Rope(dim=4)},
    "head norms": {"architecture": "qwen3"},
}


def expand(model: ir.Model) -> ir.Model:
    return run_passes(model, [ExpandComposites()], graph="test")[0]


def test_golden_pair() -> None:
    config = tiny_config(layers=1, attention_softcap=30.0, rope=Rope(dim=4))
    model = build_decoder(tiny_source(config), context_length=16)
    check_golden(GOLDEN / "expand_composites.before.txt", to_text(model))
    check_golden(GOLDEN / "expand_composites.after.txt", to_text(expand(model)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_numbers(variant: str, tmp_path: Path) -> None:
    source = tiny_source(tiny_config(**VARIANTS[variant]), tmp_path / "weights.bin")
    write_weights(source)
    canonical = build_decoder(source, context_length=32)
    whole = WholeReference(canonical)
    expanded = WholeReference(expand(canonical.clone()))
    tokens = np.random.default_rng(1).integers(0, 40, (2, 12))
    for chunk in np.split(tokens, [7, 11], axis=1):
        expected, found = whole.step(chunk), expanded.step(chunk)
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_names_of_results_survive() -> None:
    canonical = build_decoder(tiny_source(tiny_config()), context_length=16)
    before = {value.name for node in canonical.graph for value in node.outputs}
    after = {value.name for node in expand(canonical).graph for value in node.outputs}
    assert before <= after
    assert "model.layers.1.self_attn.probabilities" in after


def test_unknown_form_is_refused() -> None:
    canonical = build_decoder(tiny_source(tiny_config()), context_length=16)
    node = next(node for node in canonical.graph if node.op_type == "Attention")
    node.attributes["is_causal"] = ir.AttrInt64("is_causal", 1)
    with pytest.raises(ModelcError, match="is_causal") as caught:
        expand(canonical)
    assert caught.value.where.module == "model.layers.0.self_attn"

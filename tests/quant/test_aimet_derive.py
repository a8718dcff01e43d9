"""Encodings that follow from others: they must hold what the tensors really hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.htp_graphs import CONTEXT, TOKENS, VARIANTS, make_source

from modelc.decoder.builder import build_decoder
from modelc.ir.encodings import Encoding
from modelc.passes.expand import ExpandComposites
from modelc.quant.aimet.derive import derive
from modelc.quant.calibrate import HIDDEN_BELOW, MASK, gather_ranges

SAID = re.compile(
    r"model\.(embed_tokens|norm)|logits|lm_head|.*_proj|.*norm|.*residual|"
    r"model\.layers\.\d+(\.mlp\.(activation|product)|\.self_attn\.([qk]_rope|scores|context))?"
)
"""What a sparse file might name: what sums, products and norms make."""


BOUNDED = re.compile(
    r"mask\..*|.*\.(probabilities|context\.left|sigmoid|masked)|.*(tanh|_cos|_sin)"
)
"""What its operator or the rotary tables bound, not what was seen."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_follows_holds_what_is_there(variant: str, tmp_path: Path) -> None:
    source = make_source(tmp_path, **VARIANTS[variant])
    model = ExpandComposites().apply(build_decoder(source, CONTEXT))
    ranges = gather_ranges(model, [TOKENS])
    known = {}
    for name in filter(SAID.fullmatch, ranges):
        low, high = min(ranges[name].low, 0.0), max(ranges[name].high, 0.0)
        step = (high - low) / 65535
        known[name] = Encoding(step, round(-low / step), "uint16")
    followed = derive(model, known, "uint8")
    assert known.keys().isdisjoint(followed)
    for name in sorted(ranges.keys() - known.keys()):
        seen, encoding = ranges[name], followed[name]
        if name.startswith("mask."):
            assert encoding == MASK
            continue
        low = -HIDDEN_BELOW if name.endswith(".masked") else seen.low  # hidden ones saturate
        assert encoding.minimum - 2 * encoding.scale <= low, name
        assert encoding.maximum + 2 * encoding.scale >= seen.high, name
        if not BOUNDED.fullmatch(name):
            span = encoding.maximum - encoding.minimum
            assert span <= 12 * max(seen.high, -seen.low), name


def test_nothing_follows_from_nothing(tmp_path: Path) -> None:
    """But what operators and tables bound."""
    model = ExpandComposites().apply(build_decoder(make_source(tmp_path), CONTEXT))
    followed = derive(model, {}, "uint8")
    assert {"mask.full", "rope.cos.new", "model.layers.1.mlp.sigmoid"} <= followed.keys()
    assert not [name for name in followed if re.search("proj|norm|residual|present", name)]

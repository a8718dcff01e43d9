"""Overrides that make given kinds, written for people."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.quant.overrides import scheme_kinds, weight_kinds
from modelc.quant.patterns import as_overrides
from modelc.quant.schemes import SCHEMES

PLACES = ("self_attn.q_proj", "mlp.down_proj")
MODULES = {
    "model.embed_tokens": (64, 64),
    **{f"model.layers.{n}.{place}": (64, 64) for n in range(12) for place in PLACES},
    "lm_head": (64, 64),
}
W8A16 = SCHEMES["w8a16"]
PLAIN = scheme_kinds(MODULES, W8A16)
KINDS = st.sampled_from(["w8", "w4", "w4_b32", "w4_lpbq"])
CHOICES = st.fixed_dictionaries({m: KINDS for m in MODULES if m != "model.embed_tokens"})


@settings(max_examples=60)
@given(CHOICES, st.sampled_from(["w16", "w8"]))
def test_they_make_what_they_were_made_of(choice: dict[str, str], table: str) -> None:
    kinds = {"model.embed_tokens": table, **choice}
    assert weight_kinds(MODULES, W8A16, as_overrides(kinds, PLAIN)) == kinds


def test_what_the_scheme_says_needs_none() -> None:
    assert as_overrides(PLAIN, PLAIN) == {}


def test_what_all_layers_have_is_one_pattern_and_exceptions_follow() -> None:
    kinds = {m: "w4" if "q_proj" in m else kind for m, kind in PLAIN.items()}
    kinds |= {"model.layers.10.self_attn.q_proj": "w8", "model.layers.3.mlp.down_proj": "w4_b32"}
    assert list(as_overrides(kinds | {"lm_head": "w4"}, PLAIN).items()) == [
        ("layers.*.self_attn.q_proj", "w4"),
        ("lm_head", "w4"),
        ("layers.10.self_attn.q_proj", "w8"),
        ("layers.3.mlp.down_proj", "w4_b32"),
    ]

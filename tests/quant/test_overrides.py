"""Which module gets which kind of weight."""

from __future__ import annotations

import pytest

from modelc.errors import BadInput
from modelc.quant.overrides import check_architecture, weight_kinds
from modelc.quant.schemes import SCHEMES

MODULES = {
    "model.embed_tokens": (1000, 96),
    "model.layers.0.self_attn.q_proj": (96, 96),
    "model.layers.0.mlp.down_proj": (96, 160),
    "model.layers.1.self_attn.q_proj": (96, 96),
    "model.layers.1.mlp.down_proj": (96, 160),
    "lm_head": (1000, 96),
}
W4A16 = SCHEMES["w4a16"]


def test_the_schemes_own_kinds() -> None:
    kinds = weight_kinds(MODULES, W4A16, {})
    assert list(kinds) == list(MODULES)
    assert (kinds["model.embed_tokens"], kinds["lm_head"]) == ("w16", "w8")
    assert set(kinds.values()) == {"w16", "w4", "w8"}
    blocks = weight_kinds(MODULES, SCHEMES["w4a16_lpbq"], {})
    assert blocks["model.layers.1.mlp.down_proj"] == "w4_lpbq"
    assert weight_kinds(MODULES, SCHEMES["fp16"], {}) == {}


def test_imported_kinds_come_before_overrides() -> None:
    imported = {"lm_head": "w4", "model.layers.0.mlp.down_proj": "w4_b32"}
    kinds = weight_kinds(MODULES, W4A16, {"layers.*.mlp.down_proj": "w8"}, imported)
    assert list(kinds.values()) == ["w16", "w4", "w8", "w4", "w8", "w4"]


def test_patterns_with_and_without_the_root_and_the_last_counts() -> None:
    overrides = {
        "layers.*.mlp.down_proj": "w8",
        "model.layers.1.*": "w4_b32",
        "lm_head": "w4",
        "embed_tokens": "w8",
    }
    kinds = weight_kinds(MODULES, W4A16, overrides)
    assert list(kinds.values()) == ["w8", "w4", "w8", "w4_b32", "w4_b32", "w4"]
    turned = dict(reversed(overrides.items()))
    assert weight_kinds(MODULES, W4A16, turned)["model.layers.1.mlp.down_proj"] == "w8"


def test_16_bits_are_for_the_head() -> None:
    assert weight_kinds(MODULES, W4A16, {"lm_head": "w16"})["lm_head"] == "w16"


def test_a_pattern_is_of_the_whole_path() -> None:
    with pytest.raises(
        BadInput, match="no module is called down_proj; no module is called head"
    ) as caught:
        weight_kinds(MODULES, W4A16, {"down_proj": "w8", "head": "w8", "lm_head": "w4"})
    assert "down_proj: did you mean layers." in caught.value.hint
    assert "head: did you mean lm_head" in caught.value.hint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"lm_head": "fp16"}, "lm_head can't have weights of kind 'fp16'"),
        ({"lm_head": "w4_b128"}, "lm_head can't have weights of kind 'w4_b128'"),
        ({"layers.1.*": "w16"}, "model.layers.1.self_attn.q_proj can't have weights of kind 'w16'"),
        ({"embed_tokens": "w4"}, "model.embed_tokens can't have weights of kind 'w4'"),
        ({"layers.1.mlp.*": "w4_b64"}, "160 inputs of model.layers.1.mlp.down_proj are no whole"),
    ],
)
def test_kinds_that_do_not_fit_are_named_with_their_module(
    overrides: dict[str, str], message: str
) -> None:
    with pytest.raises(BadInput) as caught:
        weight_kinds(MODULES, W4A16, overrides)
    assert message in caught.value.message
    assert caught.value.where.module in caught.value.message
    assert caught.value.hint


def test_a_float_scheme_has_nothing_to_override() -> None:
    with pytest.raises(BadInput, match="the scheme fp16 has no kinds of weights"):
        weight_kinds(MODULES, SCHEMES["fp16"], {"lm_head": "w8"})


def test_kinds_that_a_chipset_does_not_take() -> None:
    kinds = weight_kinds(MODULES, SCHEMES["w4a16_b32"], {"lm_head": "w16"})
    check_architecture(kinds, 73)
    with pytest.raises(BadInput, match=r"HTP v69 does not take weights of kind w16 \(lm_head\)"):
        check_architecture(kinds, 69)
    with pytest.raises(BadInput, match=r"w4_b32 \(model\.layers\.\S+\), w16") as caught:
        check_architecture(kinds, 68)
    assert "it takes w8, w4, w4_lpbq" in caught.value.hint
    check_architecture(weight_kinds(MODULES, SCHEMES["w4a16_lpbq"], {}), 68)

"""The table of schemes holds together, and names of others find their rows."""

from __future__ import annotations

import pytest

from modelc.errors import BadInput
from modelc.ir.packing.kinds import KINDS, MATRIX_KINDS, TABLE_KINDS
from modelc.quant.algorithms.table import ALGORITHMS
from modelc.quant.aliases import ALIASES
from modelc.quant.overrides import weight_kinds
from modelc.quant.schemes import SCHEMES, default_scheme, find_scheme

MODULES = {
    "model.embed_tokens": (40, 128),
    "model.layers.0.mlp.up_proj": (128, 128),
    "lm_head": (40, 128),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_rows(name: str) -> None:
    row = SCHEMES[name]
    assert row.name == name and row.families
    for family in row.families:
        assert find_scheme(name, family) is row
    assert 0 < row.min_top1 <= 1 <= row.max_perplexity_ratio
    kinds = weight_kinds(MODULES, row, {})
    if not row.has_kinds:
        assert kinds == {}
        return
    assert kinds["model.layers.0.mlp.up_proj"] == row.weights
    assert kinds.get("lm_head", "") == row.head and (not row.head or row.head in row.kinds)
    table = kinds.get("model.embed_tokens")
    assert table in TABLE_KINDS if "snapdragon" in row.families else table is None
    assert row.kinds is (MATRIX_KINDS if row.families == ("snapdragon",) else KINDS)


def test_every_kind_of_floats_has_a_scheme() -> None:
    used = {row.weights for row in SCHEMES.values()}
    assert {kind for kind in KINDS if not kind.startswith(("w", "u"))} <= used


@pytest.mark.parametrize("name", ALIASES)
def test_aliases(name: str) -> None:
    alias = ALIASES[name]
    assert name not in SCHEMES
    for family, scheme in alias.schemes.items():
        assert find_scheme(name, family) is find_scheme(scheme, family)
    assert set(alias.algorithms) <= set(ALGORITHMS)


def test_an_alias_of_another_family() -> None:
    assert find_scheme("q4f16_1", "cpu").weights == "w4_b32"
    assert find_scheme("q4f16_1", "snapdragon").name == "w4a16_b32"
    with pytest.raises(BadInput, match="snapdragon targets do not take the scheme 'q3f16_1'"):
        find_scheme("q3f16_1", "snapdragon")
    with pytest.raises(BadInput, match="no quantisation scheme is called 'q4f16_9'"):
        find_scheme("q4f16_9", "cpu")
    with pytest.raises(BadInput, match="cpu targets do not take the scheme 'w8a16'"):
        find_scheme("w8a16", "cpu")


def test_defaults_are_taken() -> None:
    for family in ("cpu", "snapdragon"):
        for kind in ("gguf", "huggingface"):
            assert find_scheme(default_scheme(family, kind), family)


def test_overrides_on_the_cpu() -> None:
    """Any kind, blocks of any width; the table has none to override."""
    kinds = weight_kinds(MODULES, SCHEMES["w4_b128"], {"layers.*": "mxfp4", "lm_head": "u4_b128"})
    assert list(kinds.values()) == ["mxfp4", "u4_b128"]
    with pytest.raises(BadInput, match="no module is called embed_tokens"):
        weight_kinds(MODULES, SCHEMES["w4_b32"], {"embed_tokens": "w8"})
    with pytest.raises(BadInput, match="can't have weights of kind 'w5'"):
        weight_kinds(MODULES, SCHEMES["w4_b32"], {"lm_head": "w5"})
    with pytest.raises(BadInput, match="can't have weights of kind 'mxfp4'"):
        weight_kinds(MODULES, SCHEMES["w4a16"], {"layers.*": "mxfp4"})

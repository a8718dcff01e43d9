"""Names of graphs, there and back."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelc.errors import BadInput, Damaged
from modelc.targets.snapdragon.graph_names import GraphKey, check_complete, parse

LENGTHS = st.integers(1, 1 << 20)


@st.composite
def keys(draw: st.DrawFn) -> GraphKey:
    parts = draw(st.integers(1, 40))
    return GraphKey(draw(LENGTHS), draw(LENGTHS), draw(st.integers(1, parts)), parts)


@given(keys(), st.sampled_from(["", "_token_ar1_cl4096_2_of_3_17_1_0", "_x"]))
def test_round_trip_whatever_the_compiler_appends(key: GraphKey, rest: str) -> None:
    assert parse(key.name + rest) == key


@given(keys(), keys())
def test_names_of_parts_sort_as_the_parts(one: GraphKey, other: GraphKey) -> None:
    """Genie sorts them as text within an AR length."""
    like = GraphKey(one.ar, one.context_length, min(other.part, one.parts), one.parts)
    assert (one.name < like.name) == (one.part < like.part)


def test_examples() -> None:
    assert GraphKey(1, 4096, 2, 3).name == "token_ar1_cl4096_2_of_3"
    assert GraphKey(128, 4096, 2, 12).name == "prompt_ar128_cl4096_02_of_12"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "decoder",
        "token_ar1_cl32",
        "xtoken_ar1_cl32_1_of_1",
        f"token_ar1_cl32_1_of_{'1' * 5000}",
        "token_ar1_cl32_1_of_\u0663",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(Damaged, match="is not the name of a decoder's graph"):
        parse(name)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [GraphKey(1, 32, 1, 2)],
        [GraphKey(1, 32, 1, 2), GraphKey(1, 32, 2, 3)],
        [GraphKey(1, 32, 1, 1), GraphKey(8, 64, 1, 1)],
        [GraphKey(1, 32, 1, 1), GraphKey(1, 32, 1, 1)],
        [GraphKey(1, 32, 1, 2), GraphKey(1, 32, 1, 2)],
        [GraphKey(1, 32, 1, 1), GraphKey(1, 64, 1, 1), GraphKey(8, 64, 1, 1)],
        [GraphKey(1, 32, 1, 999_999_999)],
        [GraphKey(1, 32, 1, 2), GraphKey(1, 32, 2, 2), GraphKey(8, 32, 1, 2)],
    ],
)
def test_incomplete_sets_are_refused(wrong: list[GraphKey]) -> None:
    with pytest.raises(BadInput, match="not every part of every AR"):
        check_complete(wrong)


def test_a_complete_set() -> None:
    lengths, ars, parts = (64, 32, 512), (8, 1), (3, 1, 2)
    check_complete([GraphKey(*key, 3) for key in product(ars, lengths, parts)])

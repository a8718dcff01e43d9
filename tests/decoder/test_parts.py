"""Cutting a decoder into parts, held against every way to do it."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelc.decoder.parts import DecoderPart, cut_decoder


def covered(parts: tuple[DecoderPart, ...]) -> list[str | int]:
    """Name all that the parts hold, in order."""
    held: list[str | int] = []
    for part in parts:
        before: list[str | int] = ["embedding"] * part.embedding
        held += [*before, *range(part.first, part.last), *["head"] * part.head]
    return held


def dearest(runs: list[tuple[int, ...]]) -> int:
    return max(sum(run) for run in runs)


@given(
    layers=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    head=st.integers(1, 50),
    count=st.integers(2, 8),
)
def test_the_dearest_part_is_as_cheap_as_can_be(layers: list[int], head: int, count: int) -> None:
    costs = (*layers, head)
    if count - 1 > len(costs):
        with pytest.raises(ValueError, match="can't be cut"):
            cut_decoder(layers, head, count)
        return
    parts = cut_decoder(layers, head, count)
    assert len(parts) == count and str(parts[0]) == "embedding"
    assert covered(parts) == ["embedding", *range(len(layers)), "head"]
    found = max(sum(layers[p.first : p.last]) + head * p.head for p in parts)
    ways = combinations(range(1, len(costs)), count - 2)
    best = min(
        dearest([costs[a:b] for a, b in zip((0, *way), (*way, len(costs)), strict=True)])
        for way in ways
    )
    assert found == best


def test_one_part_is_the_whole() -> None:
    (whole,) = cut_decoder([1, 1], 5, 1)
    assert covered((whole,)) == ["embedding", 0, 1, "head"]
    assert str(whole) == "embedding + layers 0-1 + head"


def test_a_dear_head_is_alone() -> None:
    assert [str(part) for part in cut_decoder([1, 1], 9, 3)] == ["embedding", "layers 0-1", "head"]


def test_what_a_part_holds() -> None:
    middle, last = DecoderPart(0, 11), DecoderPart(11, 12, head=True)
    assert middle.holds("model.layers.10.mlp.up_proj.weight")
    assert not middle.holds("model.layers.11.mlp.up_proj.weight")
    assert last.holds("model.norm.weight") and last.holds("lm_head.weight")
    assert not last.holds("model.embed_tokens.weight")
    assert DecoderPart(0, 0, embedding=True).holds("model.embed_tokens.weight")

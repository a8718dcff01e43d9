"""Parts that don't fit each other are refused, whatever doesn't fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from modelc.errors import BadInput, ModelcError
from modelc.targets.snapdragon.binary import BinaryInfo, Graph, Tensor
from modelc.targets.snapdragon.chain import check_chain

HIDDEN = Tensor("model.layers.0", (1, 8, 16), "uint16", 0.5, 7)
TOKENS = Tensor("input_ids", (1, 8), "int32")
LOGITS = Tensor("logits", (1, 8, 99), "uint16", 0.1, 3)
PAST = Tensor("past_key_0_in", (2, 1, 8, 24), "uint8", 0.25, 128)
NEW = Tensor("past_key_0_out", (2, 1, 8, 8), "uint8", 0.25, 128)


def decoder(change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> list[BinaryInfo]:
    """Two parts, of which the second one's inputs are changed."""
    first = Graph("prompt_ar8_cl32_1_of_2_x", (TOKENS, PAST), (HIDDEN, NEW), 0, 8)
    second = Graph("prompt_ar8_cl32_2_of_2_x", (change(HIDDEN),), (LOGITS,), 0, 8)
    return [BinaryInfo("build", 69, "v79", (graph,)) for graph in (first, second)]


def test_what_fits_passes() -> None:
    check_chain(decoder())


@pytest.mark.parametrize("field", ["scale", "zero_point", "dtype", "shape"])
def test_a_boundary_means_the_same_on_both_sides(field: str) -> None:
    other = {"scale": 0.6, "zero_point": 8, "dtype": "uint8", "shape": (1, 8, 8)}[field]
    with pytest.raises(ModelcError, match=r"takes model\.layers\.0 in another encoding"):
        check_chain(decoder(lambda tensor: replace(tensor, **{field: other})))


def test_nothing_is_taken_that_nothing_gives() -> None:
    with pytest.raises(ModelcError, match=r"takes lost, which nothing gives"):
        check_chain(decoder(lambda tensor: replace(tensor, name="lost")))


def test_a_cache_has_one_encoding() -> None:
    (first, second) = decoder()
    (graph,) = first.graphs
    outputs = (HIDDEN, replace(NEW, scale=0.3))
    changed = replace(first, graphs=(replace(graph, outputs=outputs),))
    with pytest.raises(ModelcError, match="past_key_0_out in another encoding"):
        check_chain([changed, second])


def test_a_missing_part() -> None:
    with pytest.raises(BadInput, match="not every part"):
        check_chain(decoder()[:1])

"""Encodings of heads put together, against those of the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelc.errors import BadInput
from modelc.quant.aimet.encodings import (
    AimetEncodings,
    TensorEncoding,
    from_low_power_blocks,
    from_scales,
)
from modelc.quant.aimet.heads import split_head
from modelc.quant.aimet.match import match_weights

NAME = "model.layers.0.self_attn.q_proj.weight"
SHAPES = {NAME: (12, 64)}
PATH = Path("some.json")
STEPS = np.arange(1, 25).reshape(12, 2) / 8


def encoding(kind: str, rows: slice = slice(None)) -> TensorEncoding:
    if kind == "channel":
        return from_scales(STEPS[rows, 0], 4)
    if kind == "block":
        return from_scales(STEPS[rows], 4, 32)
    return from_low_power_blocks(STEPS[rows, 0], (8 * STEPS[rows]).astype(int) % 16 + 1, 4, 32)


def in_heads(kind: str, count: int = 3, name: str = NAME) -> dict[str, TensorEncoding]:
    each = 12 // count
    return {
        f"{name}.head_{head}": encoding(kind, slice(head * each, (head + 1) * each))
        for head in range(count)
    }


def test_names() -> None:
    assert split_head(f"{NAME}.head_11") == (NAME, 11)
    assert split_head("model_layers_0_self_attn_q_proj_weight_head_0")[1] == 0
    for name in (NAME, "lm_head", "lm_head.weight", "past_key_0_in", ".head_1x", "head_3"):
        assert split_head(name) == (name, -1)


@pytest.mark.parametrize("kind", ["channel", "block", "lpbq"])
@pytest.mark.parametrize("count", [1, 3, 12])  # twelve: the order is not that of the names
def test_heads_are_the_whole(kind: str, count: int) -> None:
    whole = match_weights(AimetEncodings({}, {NAME: encoding(kind)}), SHAPES, PATH)[NAME]
    joined = match_weights(AimetEncodings({}, in_heads(kind, count)), SHAPES, PATH)[NAME]
    assert (joined.granularity, joined.bits, joined.block_size) == (
        whole.granularity, whole.bits, whole.block_size,
    )  # fmt: skip
    np.testing.assert_array_equal(joined.by_channel(12), whole.by_channel(12))


def without(name: str) -> dict[str, TensorEncoding]:
    heads = in_heads("channel")
    del heads[f"{NAME}.{name}"]
    return heads


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (without("head_1"), "heads of .* don't make one weight"),
        ({**without("head_2"), f"{NAME}.head_2": encoding("block")}, "don't make one weight"),
        ({**in_heads("channel"), NAME: encoding("channel")}, "don't make one weight"),
        (
            {f"{NAME}.head_0": replace(from_scales(np.ones(1), 4), granularity="tensor")},
            "don't make one weight",
        ),
        (without("head_2"), "has 8 scales, which a weight of"),
        (
            {**in_heads("channel"), **in_heads("channel", name=NAME.replace(".", "/"))},
            "two entries are for",
        ),
    ],
)
def test_heads_that_do_not_go_together(heads: dict[str, TensorEncoding], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        match_weights(AimetEncodings({}, heads), SHAPES, PATH)

"""Which kind of weight an entry of a file is, and what is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelc.quant.aimet.encodings import (
    TensorEncoding,
    from_low_power_blocks,
    from_scales,
)
from modelc.quant.aimet.kinds import given_scales, imported_kinds

LAYER = "model.layers.0.mlp.up_proj"
TABLE = "model.embed_tokens"


def channels(bits: int) -> TensorEncoding:
    return from_scales(np.full(6, 0.5), bits)


def blocks(size: int) -> TensorEncoding:
    return from_scales(np.full((6, 2), 0.5), 4, size)


def low_power(most: int, size: int = 32) -> TensorEncoding:
    return from_low_power_blocks(np.full(6, 0.5), np.full((6, 2), most), 4, size)


def whole(bits: int) -> TensorEncoding:
    return TensorEncoding("tensor", bits, False, np.array([0.5]), np.array([-3]))


@pytest.mark.parametrize(
    ("module", "found", "kind"),
    [
        (LAYER, channels(8), "w8"),
        (LAYER, channels(4), "w4"),
        (LAYER, blocks(32), "w4_b32"),
        (LAYER, blocks(64), "w4_b64"),
        (LAYER, low_power(15), "w4_lpbq"),
        (LAYER, low_power(16), "w4_lpbq"),
        ("lm_head", channels(16), "w16"),
        (TABLE, whole(8), "w8"),
        (TABLE, whole(16), "w16"),
    ],
)
def test_kinds(module: str, found: TensorEncoding, kind: str) -> None:
    imported = imported_kinds({f"{module}.weight": found})
    assert (imported.kinds, imported.others) == ({module: kind}, {})


@pytest.mark.parametrize(
    ("name", "found", "said"),
    [
        (f"{LAYER}.weight", channels(16), "16 bits per channel"),
        (f"{LAYER}.weight", channels(5), "5 bits per channel"),
        (f"{LAYER}.weight", blocks(16), "4 bits in blocks of 16"),
        (f"{LAYER}.weight", low_power(3, 64), "4 bits in blocks of 64 with scales of 4 bits"),
        (f"{LAYER}.weight", low_power(17), "4 bits in blocks of 32 with scales of 4 bits up to 17"),
        (
            f"{LAYER}.weight",
            replace(low_power(3), bits=6, offsets=np.full(6, -32)),
            "4 bits in blocks of 32 with scales of 2 bits",
        ),
        (f"{LAYER}.weight", whole(8), "8 bits per tensor, asymmetric"),
        (
            f"{LAYER}.weight",
            replace(channels(4), offsets=np.full(6, -7)),
            "4 bits per channel, asymmetric",
        ),
        (f"{TABLE}.weight", channels(8), "8 bits per channel"),
        (f"{TABLE}.weight", whole(4), "4 bits per tensor, asymmetric"),
        ("model.norm.weight", whole(16), "16 bits per tensor, asymmetric"),
        ("model.norm.weight", channels(8), "8 bits per channel"),
        (f"{LAYER}.bias", channels(8), "8 bits per channel"),
    ],
)
def test_others(name: str, found: TensorEncoding, said: str) -> None:
    imported = imported_kinds({name: found})
    assert (imported.kinds, imported.others) == ({}, {name: said})


def test_scales_channel_by_channel() -> None:
    steps = np.arange(1, 13).reshape(6, 2) / 8
    found = given_scales(from_scales(steps, 4, 32), "w4_b32", 5, 6)
    np.testing.assert_array_equal(found.scales, steps.astype(np.float32))
    assert (found.first_row, found.multiples) == (5, None)
    plain = given_scales(from_scales(steps[:, 0], 8), "w8", 0, 6)
    np.testing.assert_array_equal(plain.scales, steps[:, :1])
    factors = np.arange(1, 13).reshape(6, 2)
    low = given_scales(from_low_power_blocks(steps[:, 0], factors, 4, 32), "w4_lpbq", 0, 6)
    np.testing.assert_array_equal(low.scales, steps[:, :1])
    np.testing.assert_array_equal(low.multiples, factors)

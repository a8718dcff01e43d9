"""Packed blocks dequantise as ggml's do."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import random_blocks

from modelc.ir.packing.blocks import LAYOUTS, PACKERS
from modelc.ir.packing.nibbles import (
    expand_nibbles,
    interleave_halves,
    pack_nibbles,
    split_halves,
)
from modelc.ir.packing.weight import unpack


@pytest.mark.parametrize("name", sorted(PACKERS))
@settings(max_examples=15)
@given(rows=st.integers(1, 5), blocks=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_unpacked_equals_gguf(name: str, rows: int, blocks: int, seed: int) -> None:
    raw = random_blocks(name, rows, blocks, seed)
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name])
    packed = PACKERS[name](raw)
    assert (packed.rows, packed.columns) == expected.shape
    assert packed.layout == LAYOUTS[name]
    assert packed.codes.flags.c_contiguous
    np.testing.assert_array_equal(unpack(packed), expected)


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_input_is_left_alone(name: str) -> None:
    raw = random_blocks(name, 2, 2, 0)
    before = raw.copy()
    PACKERS[name](raw)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("name", sorted(PACKERS))
def test_ragged_row_is_an_error(name: str) -> None:
    raw = random_blocks(name, 1, 2, 0)
    with pytest.raises(ValueError, match="whole number"):
        PACKERS[name](raw[:, :-1])


@given(st.lists(st.integers(0, 15), min_size=32, max_size=32))
def test_nibble_orders_agree(codes: list[int]) -> None:
    flat = np.array(codes, np.uint8)
    halves = flat[:16] | flat[16:] << 4
    np.testing.assert_array_equal(split_halves(halves), flat)
    np.testing.assert_array_equal(interleave_halves(halves), pack_nibbles(flat))
    np.testing.assert_array_equal(expand_nibbles(pack_nibbles(flat)), flat)

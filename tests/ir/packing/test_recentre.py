"""Recentring keeps codes and scales, and nearly all of the minima."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.ir.packing.nibbles import expand_nibbles
from modelc.ir.packing.recentre import pack_rest, recentre
from modelc.ir.packing.weight import PackedWeight, unpack


def weight(rows: int, blocks: int, lowest: float, seed: int) -> PackedWeight:
    """Blocks whose least value lies `lowest` steps under zero, give or take two."""
    random = np.random.default_rng(seed)
    scales = random.uniform(0.5, 1.0, (rows, blocks)).astype(np.float32)
    low = random.uniform(lowest - 2, lowest + 2, (rows, blocks))
    return PackedWeight(
        bits=4,
        block_size=32,
        codes=random.integers(0, 256, (rows, blocks, 16), dtype=np.uint8),
        scales=scales,
        minima=((8 - low) * scales).astype(np.float32),
    )


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 70), st.floats(2, 13), st.integers(0, 99))
def test_off_by_less_than_a_hundredth_of_a_step(
    rows: int, blocks: int, lowest: float, seed: int
) -> None:
    before = weight(rows, blocks, lowest, seed)
    after = recentre(before)
    np.testing.assert_array_equal(after.codes, before.codes)
    np.testing.assert_array_equal(after.scales, before.scales)
    assert after.zero_points is not None and after.zero_points.shape == (rows, -(-blocks // 2))
    assert np.abs(unpack(after) - unpack(before)).max() < 0.01 * before.scales.max()


@pytest.mark.parametrize("lowest", [-40.0, 40.0])
def test_blocks_far_from_zero_keep_their_place(lowest: float) -> None:
    """Zero points end at 0 and 15; what is beyond stays in the rest."""
    before = weight(3, 40, lowest, seed=1)
    off = np.abs(unpack(recentre(before)) - unpack(before)).max()
    assert off < 0.01 * np.abs(unpack(before)).max()


def test_the_rest_is_packed_without_loss() -> None:
    after = recentre(weight(5, 40, 7.0, seed=2))
    assert after.minima is not None and after.zero_points is not None
    rest = pack_rest(after.minima)
    assert rest.codes.shape == (5, 2, 32)
    np.testing.assert_allclose(unpack(rest)[:, :40], after.minima, rtol=1e-6)
    assert expand_nibbles(after.zero_points).max() <= 15


def test_empty_blocks() -> None:
    zeros = np.zeros((2, 3), np.float32)
    before = PackedWeight(4, 32, np.zeros((2, 3, 16), np.uint8), zeros, minima=zeros)
    np.testing.assert_array_equal(unpack(recentre(before)), unpack(before))

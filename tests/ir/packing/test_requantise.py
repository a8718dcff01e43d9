"""Rounding to 8 bits is as good as ggml's format of as many bits."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.ir.packing.requantise import to_eight_bits
from modelc.ir.packing.weight import PackedWeight, unpack


def error(found: np.ndarray, values: np.ndarray) -> float:
    return float(np.linalg.norm(found - values))


@pytest.mark.parametrize("centre", [0.0, -3.0])
def test_as_good_as_its_peer(centre: float) -> None:
    values = np.random.default_rng(0).normal(centre, 1, (16, 256)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    expected = error(gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind), values)
    assert error(unpack(to_eight_bits(values, 32)), values) < 1.01 * expected


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 5), st.floats(1e-15, 1e15), st.integers(0, 99))
def test_any_size_and_shape(rows: int, blocks: int, size: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, size, (rows, 32 * blocks)).astype(np.float32)
    packed = to_eight_bits(values, 32)
    assert_form(packed, values)
    blocks_in = values.reshape(rows, blocks, 32)
    reach = np.abs(blocks_in).max(-1) * 2
    off = np.abs(unpack(packed).reshape(blocks_in.shape) - blocks_in).max(-1)
    assert (off <= 1.5 * reach / 254).all()


def test_zeros_stay_zeros() -> None:
    values = np.zeros((2, 96), np.float32)
    packed = to_eight_bits(values, 32)
    assert_form(packed, values)
    np.testing.assert_array_equal(unpack(packed), values)


def assert_form(packed: PackedWeight, values: np.ndarray) -> None:
    rows, columns = values.shape
    blocks = columns // 32
    assert packed.codes.shape == (rows, blocks, 32)
    assert packed.scales.shape == (rows, blocks)
    assert packed.scales.dtype == np.float32 and np.isfinite(packed.scales).all()

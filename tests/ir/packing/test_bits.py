"""Codes without gaps, against ONNX's and MLC's packing."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.ir.packing.bits import expand_bits, pack_bits, packed_width


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@settings(max_examples=15)
@given(rows=st.integers(1, 4), count=st.integers(1, 99), seed=st.integers(0, 999))
def test_there_and_back(bits: int, rows: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, count), np.uint8)
    packed = pack_bits(codes, bits)
    assert packed.shape == (rows, packed_width(count, bits)) and packed.dtype == np.uint8
    np.testing.assert_array_equal(expand_bits(packed, bits, count), codes)


@pytest.mark.parametrize(("bits", "dtype"), [(2, ml_dtypes.uint2), (4, ml_dtypes.uint4)])
def test_as_onnx_packs_tensors(bits: int, dtype: type) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << bits, (3, 16), np.uint8)
    assert pack_bits(codes, bits).tobytes() == ir.Tensor(codes.astype(dtype)).tobytes()


@pytest.mark.parametrize("bits", [3, 6])
def test_the_first_code_has_the_lowest_bits(bits: int) -> None:
    codes = np.random.default_rng(1).integers(0, 1 << bits, (2, 8), np.uint8)
    for row, packed in zip(codes, pack_bits(codes, bits), strict=True):
        number = sum(int(code) << bits * place for place, code in enumerate(row))
        assert packed.tobytes() == number.to_bytes(bits, "little")


def test_a_large_matrix_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(2).integers(0, 8, (50, 24), np.uint8)
    whole = pack_bits(codes, 3)
    monkeypatch.setattr("modelc.ir.packing.bits._AT_ONCE", 100)
    np.testing.assert_array_equal(pack_bits(codes, 3), whole)
    np.testing.assert_array_equal(expand_bits(whole, 3, 24), codes)

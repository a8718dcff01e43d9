"""Codes out of words, against words packed one code after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.quantised_folders import pack, signed

from modelc.errors import ModelcError
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.layouts.bits import along_words, of_outputs
from modelc.ir.layouts.gptq import gptq_zeros

BITS = st.sampled_from([2, 3, 4, 8])


def codes_of(seed: int, shape: tuple[int, int], bits: int) -> torch.Tensor:
    made = np.random.default_rng(seed).integers(0, 2**bits, shape, np.int32)
    return torch.from_numpy(made)


@given(BITS, st.integers(1, 3), st.integers(1, 90), st.integers(0, 99))
def test_codes_along_words(bits: int, rows: int, count: int, seed: int) -> None:
    codes = codes_of(seed, (rows, count), bits)
    words = pack(codes.T.contiguous(), bits).T.numpy()
    np.testing.assert_array_equal(along_words(words, bits, count), codes.numpy())


@given(BITS, st.integers(1, 150), st.integers(0, 99), st.data())
def test_codes_of_some_outputs(bits: int, height: int, seed: int, data: st.DataObject) -> None:
    codes = codes_of(seed, (height, 2), bits)
    words = pack(codes, bits).T.numpy()
    first = data.draw(st.integers(0, height))
    last = data.draw(st.integers(first, height))
    found = of_outputs(words, bits, slice(first, last), height)
    np.testing.assert_array_equal(found, codes[first:last].T.numpy())
    some = np.array(data.draw(st.lists(st.integers(0, height - 1), max_size=5)), np.int64)
    np.testing.assert_array_equal(of_outputs(words, bits, some, height), codes[some].T.numpy())


@given(BITS, st.integers(0, 99))
def test_zeros_less_one_borrow_from_their_neighbours(bits: int, seed: int) -> None:
    zeros = codes_of(seed, (64, 3), bits)  # 0 among them
    if bits == 3:  # the only ones that are taken from one by one
        words = pack((zeros - 1) % 8, bits).T.contiguous()
    else:
        ones = sum(1 << shift for shift in range(0, 32, bits))
        words = signed((pack(zeros, bits).T.long() - ones) % 2**32)
    found = gptq_zeros(words.numpy(), bits, slice(None), 64, less_one=True)
    np.testing.assert_array_equal(found, zeros.T.numpy())


def test_codes_are_not_taken_for_blocks(tmp_path: Path) -> None:
    path = tmp_path / "codes.bin"
    path.write_bytes(bytes(16))
    array = StoredArray(path, 0, "int8", (2, 8))
    matrix = CodedMatrix(path, 0, "rows", (2, 8), parts=(("codes", array),))
    with pytest.raises(ModelcError, match="CodedMatrix has no blocks"):
        matrix.blocks()

"""Decoded blocks against the `gguf` package, bit by bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.ir import decode
from modelc.ir.stored import BLOCKS


@pytest.mark.parametrize("format", BLOCKS)
@settings(max_examples=12)
@given(rows=st.integers(1, 40), blocks=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_values_are_those_of_gguf(format: str, rows: int, blocks: int, seed: int) -> None:
    """Any bytes, so infinite and denormal scales too; more rows than are decoded at once."""
    elements, size = BLOCKS[format]
    count = blocks * (1 if elements > 1 else 32)
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (rows, count * size), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(decode, "CHUNK", 7)
        found = decode.decode_blocks(raw, format)
        # A slice of the file's bytes needs no copy to be decoded right.
        sliced = decode.decode_blocks(raw[::2], format)
        wanted = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[format])
    assert found.dtype == np.float32
    assert found.shape == (rows, count * elements)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(sliced, wanted[::2])


def test_every_half_is_what_numpy_makes_of_it() -> None:
    raw = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(256, -1)
    wanted = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    found = decode.decode_blocks(raw, "F16").reshape(-1)
    np.testing.assert_array_equal(found, wanted)
    assert np.isnan(found).sum() == 2 * 1023

"""One encoding for a whole weight against ONNX's own QuantizeLinear, whole and in slabs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper
from onnx.reference import ReferenceEvaluator
from support.matrices import store

from modelc.ir.packing import slabs
from modelc.ir.packing.whole import whole_codes, whole_encoding

MATRICES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 7)), elements=st.floats(-3, 3, width=32)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


@given(MATRICES)
def test_codes_are_those_of_quantize_linear(folder: Path, values: np.ndarray) -> None:
    source = store(folder, values)
    encoding = whole_encoding(source, "uint16")
    codes = whole_codes(source, encoding, "w").numpy()
    scale, zero = np.array(encoding.scale, np.float32), np.array(encoding.zero_point, np.uint16)
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    (wanted,) = ReferenceEvaluator(node).run(None, {"x": values, "s": scale, "z": zero})
    np.testing.assert_array_equal(codes, wanted)
    assert np.abs(encoding.dequantise(codes) - values).max() <= encoding.scale * 0.51


def test_slabs_give_the_same_as_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    source = store(folder, values, transposed=True, rows=(3, 17))
    encoding = whole_encoding(source, "uint8")
    whole = whole_codes(source, encoding, "w").numpy()
    assert whole.shape == (8, 14)
    monkeypatch.setattr(slabs, "SLAB_BYTES", 4 * 8 * 4)  # four rows
    assert [first for first, _ in slabs.slabs(source)] == [0, 4, 8, 12]
    assert whole_encoding(source, "uint8") == encoding
    np.testing.assert_array_equal(whole_codes(source, encoding, "w").numpy(), whole)


def test_rows_that_change_places_and_vectors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "SLAB_BYTES", 1)
    values = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    source = store(folder, values, unpermute_heads=2, transposed=True)
    found = np.concatenate([slab for _, slab in slabs.slabs(source)])
    np.testing.assert_array_equal(found.T, source.decode())
    assert slabs.stored_shape(source) == (16, 8)
    vector = replace(source, shape=(128,), unpermute_heads=0)
    assert whole_codes(vector, whole_encoding(vector, "uint8"), "v").numpy().shape == (128,)

"""int8 per channel against ONNX's own QuantizeLinear, whole and in slabs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper
from onnx.reference import ReferenceEvaluator

from modelc.ir.packing import int8_channel
from modelc.ir.packing.int8_channel import ChannelCodec, whole_codes, whole_encoding
from modelc.ir.stored import StoredMatrix

MATRICES = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 7)), elements=st.floats(-3, 3, width=32)
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "matrix.bin"


def store(path: Path, values: np.ndarray, **edits: Any) -> StoredMatrix:
    # A file of its own each time: mapped files are known by path, size and time.
    path = path.with_name(f"{len(list(path.parent.iterdir()))}.bin")
    path.write_bytes(values.tobytes())
    return StoredMatrix(path, 0, "F32", values.shape, **edits)


def onnx_codes(values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, **axis: int) -> Any:
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **axis)
    (codes,) = ReferenceEvaluator(node).run(None, {"x": values, "s": scales, "z": zeros})
    return codes


@given(MATRICES)
def test_codes_are_those_of_quantize_linear(file: Path, values: np.ndarray) -> None:
    codec = ChannelCodec(store(file, values, transposed=True))
    codes, scales = (tensor.numpy() for tensor in codec.tensors("w"))
    rows = len(values)
    assert codes.shape == values.T.shape
    np.testing.assert_array_equal(
        codes, onnx_codes(values.T, scales, np.zeros(rows, np.int8), axis=1)
    )
    assert np.abs(codes.astype(int)).max() <= 127
    error = np.abs(codes.T * scales[:, None].astype(np.float64) - values)
    assert (error <= scales[:, None] * 0.5001).all()


@given(MATRICES)
def test_one_encoding_for_all(file: Path, values: np.ndarray) -> None:
    source = store(file, values)
    encoding = whole_encoding(source, "uint16")
    codes = whole_codes(source, encoding, "w").numpy()
    scale, zero = np.array(encoding.scale, np.float32), np.array(encoding.zero_point, np.uint16)
    wide = onnx_codes(values, scale, zero).astype(int)
    assert np.abs(codes - wide).max() <= 1  # they divide in float32
    assert np.abs(encoding.dequantise(codes) - values).max() <= encoding.scale * 0.51


def test_slabs_give_the_same_as_the_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    source = store(file, values, transposed=True, rows=(3, 17))
    whole = [tensor.numpy() for tensor in ChannelCodec(source).tensors("w")]
    monkeypatch.setattr(int8_channel, "SLAB_BYTES", 4 * 8 * 4)  # four rows
    assert [first for first, _ in int8_channel.slabs(source)] == [0, 4, 8, 12]
    for expected, tensor in zip(whole, ChannelCodec(source).tensors("w"), strict=True):
        np.testing.assert_array_equal(tensor.numpy(), expected)
    assert ChannelCodec(source).channels == 14


def test_rows_that_change_places(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_channel, "SLAB_BYTES", 1)
    values = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    source = store(file, values, unpermute_heads=2)
    codes, scales = (tensor.numpy() for tensor in ChannelCodec(source).tensors("w"))
    assert np.abs(codes * scales[:, None] - source.decode()).max() <= scales.max() / 2
    vector = replace(source, shape=(128,), unpermute_heads=0)
    assert whole_codes(vector, whole_encoding(vector, "uint8"), "v").numpy().shape == (128,)


def test_a_channel_of_zeros(file: Path) -> None:
    values = np.array([[0, 0], [1, -2]], np.float32)
    codes, scales = (tensor.numpy() for tensor in ChannelCodec(store(file, values)).tensors("w"))
    assert (scales > 0).all()
    assert codes.tolist() == [[0, 0], [64, -127]]

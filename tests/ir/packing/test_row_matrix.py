"""Rows of GPU kernels: codes and scales stand for the same numbers as quantise_rows says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelc.errors import BadInput
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import KINDS
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.packing.row_matrix import RowMatrix, check_form
from modelc.ir.stored import StoredMatrix


def stored(path: Path, rows: int, columns: int) -> StoredMatrix:
    values = np.random.default_rng(rows).normal(0, 0.3, (rows, columns)).astype(np.float32)
    path.write_bytes(values.tobytes())
    return StoredMatrix(path, 0, "F32", (rows, columns))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[StoredMatrix, StoredMatrix]:
    return stored(tmp_path / "a", 256, 384), stored(tmp_path / "b", 40, 384)


@pytest.mark.parametrize("kind", ["w4_b32", "w4_b128", "u4_b32", "u4_b64"])
@pytest.mark.parametrize("columns", [None, (128, 384)])
def test_nibbles(
    pair: tuple[StoredMatrix, ...], kind: str, columns: tuple[int, int] | None
) -> None:
    form = KINDS[kind]
    matrix = RowMatrix(pair, form, columns)
    codes, scales = matrix.codes("c").numpy(), matrix.scales("s").numpy()
    assert codes.shape == (296, matrix.width // 2) and scales.dtype == np.float16
    blocks = codes.reshape(296, -1, form.block // 2)
    apart = np.concatenate([blocks & 15, blocks >> 4], axis=-1).astype(np.float32)
    zeros = matrix.zeros("z").numpy()[..., None] if matrix.has_zeros else 8
    values = ((apart - zeros) * scales[..., None].astype(np.float32)).reshape(296, -1)
    expected = np.concatenate([dequantise_rows(quantise_rows(one.decode(), form)) for one in pair])
    expected = expected[:, slice(*columns)] if columns else expected
    # What float16 rounds of the scales.
    assert np.abs(values - expected).max() <= 2**-11 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["e4m3", "e4m3_channel", "e4m3_b128"])
def test_small_floats(pair: tuple[StoredMatrix, ...], kind: str) -> None:
    form = KINDS[kind]
    matrix = RowMatrix(pair, form)
    codes = matrix.codes("c").numpy().astype(np.float32)
    scales = matrix.scales("s").numpy()
    if form.block:
        assert scales.shape == (3, 3)  # the second matrix's blocks begin anew
        rows = [0] * 128 + [1] * 128 + [2] * 40
        scales = np.repeat(scales[rows], 128, axis=1)[:, :384]
    else:
        scales = scales[:, None]
    expected = np.concatenate([dequantise_rows(quantise_rows(one.decode(), form)) for one in pair])
    assert np.array_equal(codes * scales, expected)


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT])
def test_floats(pair: tuple[StoredMatrix, ...], dtype: ir.DataType) -> None:
    values = RowMatrix(pair, None, (64, 200)).floats(dtype, "w").numpy()
    expected = np.concatenate([one.decode() for one in pair])[:, 64:200]
    assert values.dtype == dtype.numpy() and np.array_equal(values, expected.astype(values.dtype))


def test_scales_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    huge = stored(tmp_path / "a", 8, 32)
    (tmp_path / "a").write_bytes(np.full((8, 32), 1e7, np.float32).tobytes())
    with pytest.raises(BadInput, match="more than float16 holds"):
        RowMatrix((huge,), KINDS["w4_b32"]).scales("s").numpy()


def test_what_kernels_read() -> None:
    check_form(None, 33, "m")
    check_form(KINDS["e4m3_b128"], 33, "m")
    for kind in ("w8", "w4", "w4_lpbq", "e5m2", "mxfp8"):
        with pytest.raises(BadInput, match="no kernel reads"):
            check_form(KINDS[kind], 64, "m")


def test_blocks_of_a_gguf_are_taken_as_they_are(tmp_path: Path) -> None:
    import gguf

    values = np.random.default_rng(0).normal(0, 0.3, (6, 64)).astype(np.float32)
    blocks = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q4_0)
    (tmp_path / "q").write_bytes(blocks.tobytes())
    matrix = RowMatrix((StoredMatrix(tmp_path / "q", 0, "Q4_0", (6, 64)),), KINDS["w4_b32"])
    codes = matrix.codes("c").numpy().reshape(6, 2, 16)
    scales = matrix.scales("s").numpy().astype(np.float32)
    apart = np.concatenate([codes & 15, codes >> 4], axis=-1).astype(np.float32) - 8
    theirs = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q4_0)
    assert np.array_equal((apart * scales[..., None]).reshape(6, 64), theirs)
    assert matrix.rounded() == ""

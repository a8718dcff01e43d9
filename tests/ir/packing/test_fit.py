"""Codes that are kept: in another form they stand for the same numbers, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelc.frontends.huggingface.quantised.module import ARRAY_TYPES
from modelc.frontends.huggingface.safetensors import read_header
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.coded_file import place_written, write_weights
from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.coded_slabs import coded_slabs, keeps, relative_error
from modelc.ir.packing.fit import fits, refit
from modelc.ir.packing.integer_matrix import IntegerMatrix
from modelc.ir.packing.kinds import KINDS, MATRIX_KINDS, FloatForm, Form, IntegerForm
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.stored import slice_rows

COLUMNS = 640  # whole blocks of all widths
PAIRS = [(a, b) for a in KINDS for b in KINDS if fits(KINDS[a], KINDS[b], COLUMNS)]


def coded(form: Form, seed: int, rows: int = 128, columns: int = COLUMNS) -> CodedRows:
    values = np.random.default_rng(seed).laplace(size=(rows, columns)).astype(np.float32)
    values[1] = 0
    return quantise_rows(values, form)


@given(st.sampled_from(PAIRS), st.integers(0, 9))
def test_what_fits_stays_as_it_is(pair: tuple[str, str], seed: int) -> None:
    have, want = (KINDS[kind] for kind in pair)
    rows = coded(have, seed)
    found = refit(rows, want)
    np.testing.assert_array_equal(dequantise_rows(found), dequantise_rows(rows))
    assert found.block == want.block
    assert found.codes.dtype == want.array_type
    blocks = COLUMNS // want.block if want.block else 1
    if isinstance(want, IntegerForm):
        assert (found.zeros is None) == want.symmetric
        assert (found.multiples is None) == (not want.scale_bits)
        assert found.codes.max() <= want.highest
        assert found.codes.min() >= want.lowest - 1
        blocks = 1 if want.scale_bits else blocks
    assert found.scales.shape == (128, blocks)


@pytest.mark.parametrize(
    ("stored", "wanted", "fit"),
    [
        ("w4_b128", "w4_b32", True),
        ("w4_b32", "w4_b64", False),
        ("w4", "w4_b64", True),
        ("w4", "w4_lpbq", True),
        ("w4_b32", "w4_lpbq", False),
        ("w4_lpbq", "w4_b32", True),
        ("w4_lpbq", "w4_lpbq", True),
        ("w8", "w4", False),
        ("w4", "w8", True),
        ("w4_b32", "u4_b32", True),
        ("u4_b32", "w4_b32", False),
        ("u4", "w8", True),
        ("u8", "w8", False),
        ("w8", "w16", True),
        ("w8_tensor", "w8", True),
        ("w8", "w8_tensor", False),
        ("e4m3", "w8", False),
        ("e4m3", "e4m3_channel", True),
        ("e4m3_b128", "e4m3_channel", False),
        ("mxfp8", "e4m3_channel", False),
    ],
)
def test_what_fits(stored: str, wanted: str, fit: bool) -> None:
    assert fits(KINDS[stored], KINDS[wanted], COLUMNS) is fit


def test_inputs_out_of_order_and_tables_fit_nothing() -> None:
    for form in KINDS.values():
        assert not fits(None, form, COLUMNS)
        assert not fits(IntegerForm(4, 1), form, COLUMNS)


def test_a_scale_of_zero_becomes_one_that_can_divide() -> None:
    codes = np.array([[3, -2, 1, 1]], np.int8)
    rows = CodedRows(codes, np.array([[0, 0.5]], np.float32), block=2)
    found = refit(rows, IntegerForm(4, 1))
    assert found.scales.min() > 0
    np.testing.assert_array_equal(dequantise_rows(found), [[0, 0, 0.5, 0.5]])
    zeros = np.array([[5, 1]], np.uint8)
    rows = CodedRows(np.array([[3, 2, 1, 4]], np.uint8), rows.scales, zeros=zeros, block=2)
    found = refit(rows, IntegerForm(8, 2, symmetric=False))
    np.testing.assert_array_equal(dequantise_rows(found), [[0, 0, 0, 1.5]])


@pytest.fixture
def stored(tmp_path: Path) -> CodedMatrix:
    """A matrix of int4 codes in blocks of 128."""
    form = IntegerForm(4, 128)
    path = tmp_path / "weights.safetensors"
    write_weights(path, {"w": (coded(form, 1, rows=40), form)})
    return place(path, form)


def place(path: Path, form: Form) -> CodedMatrix:
    arrays = {
        tensor.name: StoredArray(path, tensor.offset, ARRAY_TYPES[tensor.format], tensor.shape)
        for tensor in read_header(path)
    }
    matrix = place_written(path, {"w": form}, arrays)["w"]
    assert isinstance(matrix, CodedMatrix)
    return matrix


@pytest.mark.parametrize("kind", ["w4_b64", "w4_b32"])
def test_htp_gets_the_codes_of_a_source(kind: str, stored: CodedMatrix) -> None:
    head = replace(slice_rows(stored, 8, 24), transposed=True)
    matrix = IntegerMatrix(head, MATRIX_KINDS[kind])
    codes = matrix.codes("c").numpy().astype(np.int8)
    np.testing.assert_array_equal(codes.T, stored.coded(slice(8, 24)).codes)
    scales = np.repeat(matrix.scales("s").numpy(), MATRIX_KINDS[kind].block, axis=0)
    np.testing.assert_array_equal(codes * scales, head.decode())
    assert keeps(head, MATRIX_KINDS[kind])
    assert relative_error(head, MATRIX_KINDS[kind]) == 0


def test_what_does_not_fit_is_made_of_the_numbers(stored: CodedMatrix) -> None:
    form = MATRIX_KINDS["w8"]
    values = stored.decode()
    assert not keeps(stored, form)
    ((_, found),) = coded_slabs(stored, form)
    np.testing.assert_array_equal(found.codes, quantise_rows(values, form).codes)
    error = np.linalg.norm(dequantise_rows(found) - values) / np.linalg.norm(values)
    assert relative_error(stored, form) == pytest.approx(error, rel=1e-5)
    assert 0 < error < 0.02


def test_small_floats_of_whole_tensors_are_kept(tmp_path: Path) -> None:
    form = FloatForm("e4m3", 128, 128)
    write_weights(tmp_path / "w.safetensors", {"w": (coded(form, 2), form)})
    matrix = place(tmp_path / "w.safetensors", form)
    ((_, found),) = coded_slabs(matrix, form)
    np.testing.assert_array_equal(dequantise_rows(found), matrix.decode())
    assert keeps(matrix, FloatForm("e4m3", 64))

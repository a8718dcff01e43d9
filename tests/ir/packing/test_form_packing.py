"""Codes of kinds as MatMulNBits reads them, and as tensors of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.matrices import store, store_coded

from modelc.ir.packing import slabs
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.form_matrix import FormMatrix
from modelc.ir.packing.form_packing import FormPacking, form_packing
from modelc.ir.packing.kinds import KINDS, IntegerForm
from modelc.ir.packing.matrix import PackedMatrix
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.packing.weight import PackedWeight, unpack
from modelc.ir.stored import StoredMatrix

PACKED = [kind for kind in sorted(KINDS) if form_packing(KINDS[kind], 64)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def some(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=(rows, columns)).astype(np.float32)


def packing_of(kind: str, columns: int) -> FormPacking:
    packing = form_packing(KINDS[kind], columns)
    assert packing is not None
    return packing


def read(matrix: PackedMatrix) -> np.ndarray:
    layout = matrix.packing.layout
    points = matrix.zero_points("z").numpy() if layout.zero_points else None
    codes, scales = matrix.codes("c"), matrix.scales("s")
    assert codes.numpy().shape == tuple(codes.shape.numpy())
    packed = PackedWeight(layout.bits, layout.block_size, codes.numpy(), scales.numpy(), points)
    return unpack(packed)[:, : matrix.columns]


def test_what_has_kernels() -> None:
    missing = {kind for kind in KINDS if kind not in PACKED}
    integers = {kind for kind in missing if isinstance(KINDS[kind], IntegerForm)}
    assert integers == {"w16", *(f"{sign}{bits}_b40" for sign in "wu" for bits in (2, 3, 4, 8))}
    assert {packing_of("w4", columns).block_size for columns in (8, 33, 100, 704)} == {16, 64, 128}
    assert packing_of("u2_b64", 704).layout.bits == 2
    assert packing_of("w3", 704).layout.bits == 4


@pytest.mark.parametrize("kind", PACKED)
@settings(max_examples=4)
@given(rows=st.integers(1, 5), columns=st.integers(1, 200), seed=st.integers(0, 99))
def test_packing_keeps_the_numbers(kind: str, rows: int, columns: int, seed: int) -> None:
    coded = quantise_rows(some(rows, columns, seed), KINDS[kind])
    found = unpack(packing_of(kind, columns).pack(coded))
    np.testing.assert_array_equal(found[:, :columns], dequantise_rows(coded))


@pytest.mark.parametrize("kind", ["w4_b32", "u3_b64", "w8_tensor", "w2", "w4_lpbq"])
def test_matrices_of_numbers(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several sources, a few at a time, as if each source were quantised whole."""
    monkeypatch.setattr(slabs, "SLAB_BYTES", 4 * 96 * 3)
    first, second = some(7, 96, 1), some(9, 96, 2)
    sources = (store(folder, first), store(folder, second, rows=(2, 8)))
    matrix = PackedMatrix(sources, packing_of(kind, 96))
    halves = [dequantise_rows(quantise_rows(rows, KINDS[kind])) for rows in (first, second[2:8])]
    np.testing.assert_array_equal(read(matrix), np.concatenate(halves))
    assert matrix.rounded() == "" and matrix.relative_error() == 0


@pytest.mark.parametrize(
    ("have", "want"),
    [
        ("w4", "w4_b32"),
        ("w4_b128", "w4_b32"),
        ("w4_b32", "w8_b16"),
        ("w3_b64", "u4_b32"),
        ("u4", "u4_b64"),
    ],
)
def test_codes_are_kept_where_the_kind_can_have_them(
    have: str, want: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "SLAB_BYTES", 4 * 200 * 3)
    matrix = store_coded(tmp_path / "w", some(10, 200), KINDS[have])
    packed = PackedMatrix((matrix, replace(matrix, rows=(3, 6))), packing_of(want, 200))
    expected = matrix.decode()
    np.testing.assert_array_equal(read(packed), np.concatenate([expected, expected[3:6]]))
    assert packed.rounded() == ""


def test_codes_that_are_not_kept_are_told(tmp_path: Path) -> None:
    matrix = store_coded(tmp_path / "w", some(10, 200), KINDS["w4_b32"])
    expected = dequantise_rows(quantise_rows(matrix.decode(), KINDS["w4_b128"]))
    error = np.linalg.norm(expected - matrix.decode()) / np.linalg.norm(matrix.decode())
    for made in (
        PackedMatrix((matrix,), packing_of("w4_b128", 200)),
        FormMatrix((matrix,), KINDS["w4_b128"]),
    ):
        assert made.rounded() == "int4 in blocks of 32"
        assert made.relative_error() == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize(
    "kind", ["e4m3", "e5m2_b128", "mxfp4", "mxfp6", "mxfp6_e3m2", "w3_b40", "u4_b40", "w16"]
)
def test_codes_as_tensors(kind: str, folder: Path) -> None:
    """[inputs, outputs], as their type or as places in the table of elements."""
    values = some(130, 150)
    whole = store(folder, values, transposed=True)
    sources: tuple[StoredMatrix, ...] = (whole, replace(whole, rows=(0, 64)))
    matrix = FormMatrix(sources, KINDS[kind])
    codes, scales = matrix.codes("c"), matrix.scales("s")
    found = codes.numpy()
    assert found.shape == tuple(codes.shape.numpy()) == (150, 194)
    assert len(codes.tobytes()) == -(-found.size * codes.dtype.bitwidth // 8)
    numbers = found.astype(np.float32)
    if matrix.elements is not None:
        numbers = matrix.elements[numbers.astype(int)]
    places = np.arange(150) // (KINDS[kind].block or 150)
    if matrix.has_zeros:
        numbers = numbers - matrix.zeros("z").numpy().astype(np.float32)[places]
    numbers = numbers * scales.numpy()[places]
    parts = [dequantise_rows(quantise_rows(rows, KINDS[kind])) for rows in (values, values[:64])]
    np.testing.assert_array_equal(numbers.T, np.concatenate(parts))

"""Matrices whose scales are given: codes against ONNX's QuantizeLinear, and what is the same."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator
from support.matrices import store

from modelc.errors import Damaged
from modelc.ir.packing import given_scales, slabs
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.integer_matrix import IntegerMatrix
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.ir.stored import StoredMatrix, slice_rows, unpermute

KINDS = list(MATRIX_KINDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def some_scales(kind: str, rows: int, columns: int, seed: int = 0, first: int = 0) -> GivenScales:
    """Scales of numbers around 1, some of which they don't reach."""
    random, form = np.random.default_rng(seed), MATRIX_KINDS[kind]
    blocks = columns // (form.block or columns)
    steps = (2 / form.highest) * random.uniform(0.5, 2, (rows, blocks)).astype(np.float32)
    if not form.scale_bits:
        return GivenScales(kind, first, steps)
    multiples = random.integers(1, 17, (rows, blocks), np.uint8)
    return GivenScales(kind, first, steps[:, :1] / 8, multiples)


def numbers(matrix: IntegerMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Codes [inputs, outputs] and scales [outputs] or [blocks, outputs]."""
    codes, scales = matrix.codes("c").numpy(), matrix.scales("s").numpy()
    return codes, scales * matrix.multiples("m").numpy() if matrix.form.scale_bits else scales


@given(
    st.sampled_from(KINDS), st.integers(1, 3), st.integers(1, 9), st.integers(0, 99), st.booleans()
)
def test_codes_are_those_of_quantize_linear(
    folder: Path, kind: str, blocks: int, outputs: int, seed: int, small: bool
) -> None:
    values = np.random.default_rng(seed).laplace(size=(outputs, 64 * blocks)).astype(np.float32)
    form, chosen = MATRIX_KINDS[kind], some_scales(kind, outputs, 64 * blocks, seed)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(slabs, "SLAB_BYTES", 4 * 64 * blocks * 2)
        matrix = IntegerMatrix(store(folder, values, transposed=True), form, chosen)
        codes, scales = numbers(matrix)
    wanted = chosen.scales if chosen.multiples is None else chosen.scales * chosen.multiples
    np.testing.assert_array_equal(scales.reshape(-1, outputs), wanted.T)
    axis = {"axis": 0, "block_size": form.block} if form.block else {"axis": 1}
    node = helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], **axis)
    feeds = {"x": values.T, "s": scales, "z": np.zeros(scales.shape, codes.dtype)}
    (expected,) = ReferenceEvaluator(node).run(None, feeds)
    np.testing.assert_array_equal(codes.astype(int), np.asarray(expected).astype(int))


def test_every_code_is_used(folder: Path) -> None:
    """The scales may be of a tool that counts from -128."""
    values = np.array([[-128, 127, -200, 200]], np.float32)
    chosen = GivenScales("w8", 0, np.ones((1, 1), np.float32))
    source = store(folder, values, transposed=True)
    codes = IntegerMatrix(source, MATRIX_KINDS["w8"], chosen).codes("c").numpy()
    assert codes[:, 0].tolist() == [-128, 127, -128, 127]


def test_other_scales_are_another_tensor(folder: Path) -> None:
    """Tensors of one identity are written once."""
    source = store(folder, np.ones((3, 32), np.float32), transposed=True)
    form, chosen = MATRIX_KINDS["w4_lpbq"], some_scales("w4_lpbq", 3, 32)
    assert chosen.multiples is not None
    more = chosen.multiples + np.uint8(1)
    other = [None, chosen, GivenScales("w4_lpbq", 0, 2 * chosen.scales, chosen.multiples)]
    other.append(GivenScales("w4_lpbq", 0, chosen.scales, more))
    made = [IntegerMatrix(source, form, scales) for scales in other]
    for part in ("codes", "scales", "multiples"):
        assert len({getattr(matrix, part)("x").how for matrix in made}) == 4
    again = IntegerMatrix(source, form, some_scales("w4_lpbq", 3, 32))
    assert again == made[1]
    assert again.codes("x").how == made[1].codes("x").how


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [0, 4])
def test_rows_of_a_matrix_take_their_own_scales(kind: str, heads: int, folder: Path) -> None:
    """Sliced out of fused rows, and again for each head; those of a GGUF change places."""
    values = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    source = store(folder, values, rows=(8, 40), transposed=True, unpermute_heads=heads)
    form, chosen = MATRIX_KINDS[kind], some_scales(kind, 32, 64, first=8)
    whole = numbers(IntegerMatrix(source, form, chosen.of(source)))
    steps = chosen.scales if chosen.multiples is None else chosen.scales * chosen.multiples
    floats = unpermute(values[8:], heads) if heads else values[8:]
    ratios = floats / np.repeat(steps, 64 // steps.shape[1], axis=1)
    wanted = np.clip(np.rint(ratios), -form.highest - 1, form.highest)
    np.testing.assert_array_equal(whole[0].T.astype(int), wanted.astype(int))
    for head in range(4):
        part = slice_rows(source, 8 * head, 8 * head + 8)
        found = numbers(IntegerMatrix(part, form, chosen.of(part)))
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_array_equal(one, other[..., 8 * head : 8 * head + 8])


@pytest.mark.parametrize(
    "change",
    [
        {"rows": (7, 15)},
        {"rows": (36, 44)},
        {"rows": (8, 16), "shape": (44, 32)},
        {"shape": (44, 128), "rows": (8, 16)},
    ],
)
def test_scales_of_another_matrix(change: dict, folder: Path) -> None:
    source = StoredMatrix(folder / "absent", 0, "F32", (44, 64), transposed=True)
    with pytest.raises(Damaged, match="the imported scales are not of"):
        some_scales("w4_b32", 32, 64, first=8).of(replace(source, **change))


def test_a_file_of_them(tmp_path: Path) -> None:
    known = {f"model.{kind}": some_scales(kind, 6, 64, first=3) for kind in KINDS}
    given_scales.save(known, tmp_path / "one.npz")
    given_scales.save(dict(reversed(known.items())), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    found = given_scales.load(tmp_path / "one.npz")
    assert found == known  # digests
    for module, scales in known.items():
        np.testing.assert_array_equal(found[module].scales, scales.scales)
        assert (found[module].multiples is None) == (scales.multiples is None)
    given_scales.save({}, tmp_path / "none.npz")
    assert given_scales.load(tmp_path / "none.npz") == {}


@pytest.mark.parametrize(
    "arrays",
    [
        {"m/kind": np.array("w4")},
        {"m/kind": np.array("w5"), "m/first_row": np.array(0), "m/scales": np.ones((1, 1))},
        {"m/kind": np.array(["w4"], object), "m/first_row": np.array(0), "m/scales": np.ones(1)},
        {"m/kind": np.array("w4"), "m/first_row": np.ones(2), "m/scales": np.ones((1, 1))},
        {"m/kind": np.array("w4_lpbq"), "m/first_row": np.array(0), "m/scales": np.ones((1, 1))},
        *(
            {"m/kind": np.array("w4"), "m/first_row": np.array(0), "m/scales": np.array([[scale]])}
            for scale in (0.0, -1.0, np.nan, np.inf, 1e300, 1e-300)
        ),
        *(
            {
                "m/kind": np.array("w4_lpbq"),
                "m/first_row": np.array(0),
                "m/scales": np.ones((1, 1)),
                "m/multiples": np.array([[multiple]], dtype),
            }
            for multiple, dtype in ((0, "u1"), (17, "u1"), (300, "i8"), (-1, "i1"), (1.5, "f4"))
        ),
    ],
)
def test_other_arrays(arrays: dict, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(Damaged, match="not a file of scales"):
        given_scales.load(tmp_path / "bad.npz")


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "scales.npz"
    given_scales.save({"m": some_scales("w4", 60, 64)}, path)
    whole = path.read_bytes()
    for broken in (whole[:-30], whole[:400], b"", b"PK" + bytes(100)):
        path.write_bytes(broken)
        with pytest.raises(Damaged):
            given_scales.load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/scales.npy", bytes(1 << 20))
    with pytest.raises(Damaged, match="compressed"):
        given_scales.load(path)

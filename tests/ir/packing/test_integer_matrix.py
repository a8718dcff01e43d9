"""Integer matrices against ONNX's own QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator
from support.matrices import store

from modelc.ir.packing import slabs
from modelc.ir.packing.integer_matrix import IntegerMatrix
from modelc.ir.packing.kinds import MATRIX_KINDS, IntegerForm
from modelc.ir.stored import StoredMatrix

KINDS = st.sampled_from(list(MATRIX_KINDS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights")


def run(op_type: str, arrays: dict[str, np.ndarray], form: IntegerForm) -> np.ndarray:
    axis = {"axis": 0, "block_size": form.block} if form.block else {"axis": 1}
    node = helper.make_node(op_type, list(arrays), ["y"], **axis)
    made: Any = ReferenceEvaluator(node).run(None, arrays)[0]
    return np.asarray(made)


def numbers(matrix: IntegerMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Codes [inputs, outputs], and scales [outputs] or [blocks, outputs] with multiples in them."""
    codes, scales = matrix.codes("c").numpy(), matrix.scales("s").numpy()
    if matrix.form.scale_bits:
        multiples = matrix.multiples("m").numpy()
        assert multiples.dtype == np.uint8
        assert multiples.min() >= 1
        assert multiples.max() == 15
        scales = scales * multiples
    return codes, scales


@given(KINDS, st.integers(1, 4), st.integers(1, 9), st.integers(0, 999), st.booleans())
def test_codes_are_those_of_quantize_linear(
    folder: Path, kind: str, blocks: int, outputs: int, seed: int, zeros: bool
) -> None:
    values = np.random.default_rng(seed).laplace(size=(outputs, 64 * blocks)).astype(np.float32)
    if zeros and outputs > 1:
        values[0] = 0
    form = MATRIX_KINDS[kind]
    matrix = IntegerMatrix(store(folder, values, transposed=True), form)
    codes, scales = numbers(matrix)
    assert (scales > 0).all()
    assert codes.shape == values.T.shape
    assert scales.shape == ((matrix.blocks, outputs) if form.block else (outputs,))
    assert codes.dtype == {16: np.int16, 8: np.int8, 4: ml_dtypes.int4}[form.bits]
    points = np.zeros(scales.shape, codes.dtype)
    wanted = run("QuantizeLinear", {"x": values.T, "s": scales, "z": points}, form)
    np.testing.assert_array_equal(codes.astype(int), wanted.astype(int))


@given(KINDS, st.integers(0, 999), st.sampled_from(["normal", "laplace", "uniform"]))
def test_no_worse_than_rounding_the_largest_to_the_last_code(
    folder: Path, kind: str, seed: int, law: str
) -> None:
    values = getattr(np.random.default_rng(seed), law)(size=(6, 128)).astype(np.float32)
    form = MATRIX_KINDS[kind]
    codes, scales = numbers(IntegerMatrix(store(folder, values, transposed=True), form))
    points = np.zeros(scales.shape, codes.dtype)
    found = run("DequantizeLinear", {"x": codes, "s": scales, "z": points}, form).T
    rows = values.reshape(-1, form.block or 128)
    steps = np.abs(rows).max(-1, keepdims=True) / form.highest
    plain = (np.rint(rows / steps) * steps).reshape(values.shape)
    spare = 1.1 if form.scale_bits else 1.0  # a block's scale itself is rounded
    assert np.square(found - values).sum() <= np.square(plain - values).sum() * spare + 1e-9


def test_blocks_of_q4_0_are_found_again(folder: Path) -> None:
    """Exactly where the largest magnitude of a block is negative: the others use a code of +8."""
    values = np.random.default_rng(2).normal(size=(16, 128)).astype(np.float32)
    blocks = values.reshape(-1, 32)
    blocks *= -np.sign(np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[:, None], -1))
    path = folder / "q4_0.bin"
    path.write_bytes(gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q4_0).tobytes())
    source = StoredMatrix(path, 0, "Q4_0", values.shape, transposed=True)
    codes, scales = numbers(IntegerMatrix(source, MATRIX_KINDS["w4_b32"]))
    found = codes.astype(np.float32) * np.repeat(scales, 32, axis=0)
    np.testing.assert_allclose(found, source.decode(), rtol=1e-5)


@pytest.mark.parametrize("kind", MATRIX_KINDS)
def test_slabs_give_the_same_as_the_whole(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    source = store(folder, values, transposed=True, rows=(3, 17))
    whole = numbers(IntegerMatrix(source, MATRIX_KINDS[kind]))
    again = store(folder, values, transposed=True, rows=(3, 17))  # not what was kept
    monkeypatch.setattr(slabs, "SLAB_BYTES", 4 * 64 * 4)
    for expected, found in zip(
        whole, numbers(IntegerMatrix(again, MATRIX_KINDS[kind])), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_two_codes_of_four_bits_lie_in_a_byte(folder: Path) -> None:
    values = np.array([[7, -8], [1, 2], [-1, 3]], np.float32)
    tensor = IntegerMatrix(store(folder, values, transposed=True), MATRIX_KINDS["w4"]).codes("c")
    assert tensor.dtype == ir.DataType.INT4
    assert tensor.nbytes == len(tensor.tobytes()) == 3
    low, high = np.frombuffer(tensor.tobytes(), np.uint8) & 15, tensor.numpy().reshape(-1)[::2]
    assert low.tolist() == (high.astype(int) & 15).tolist()

"""Packed matrices as lazy tensors over a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.blocks import random_blocks

from modelc.ir.packing.choose import FAST, Gguf, choose_packing
from modelc.ir.packing.half import half_rows
from modelc.ir.packing.matrix import PackedMatrix, PackedTensor
from modelc.ir.packing.weight import PackedWeight, unpack
from modelc.ir.stored import BLOCKS, StoredMatrix

ROWS, COLUMNS = 2048, 256  # more than a slab of most formats


def stored(tmp_path: Path, format: str) -> StoredMatrix:
    path = tmp_path / "weights.bin"
    raw = random_blocks(format, ROWS, COLUMNS // BLOCKS[format][0], 5)
    path.write_bytes(b"head" + raw.tobytes())
    return StoredMatrix(path, 4, format, (ROWS, COLUMNS))


def read(matrix: PackedMatrix) -> PackedWeight:
    """The parts as a file would hold them."""

    def numbers(tensor: PackedTensor) -> np.ndarray:
        array = tensor.numpy()
        assert array.shape == tuple(tensor.shape.numpy())
        assert array.dtype == tensor.dtype.numpy()
        return array

    layout = matrix.packing.layout
    codes = numbers(matrix.codes("codes"))
    np.testing.assert_array_equal(numbers(matrix.code_rows("rows")), codes.reshape(len(codes), -1))
    minima = numbers(matrix.minima_columns("minima")).T if layout.minima else None
    if minima is not None:
        np.testing.assert_array_equal(numbers(matrix.minima("m"))[..., 0], minima)
    points = numbers(matrix.zero_points("points")) if layout.zero_points else None
    return PackedWeight(
        layout.bits, layout.block_size, codes, numbers(matrix.scales("scales")), points, minima
    )


@pytest.mark.parametrize("format", ["Q4_0", "Q4_K", "Q6_K"])
def test_sources_lie_below_each_other(format: str, tmp_path: Path) -> None:
    whole = stored(tmp_path, format)
    sources = (replace(whole, unpermute_heads=8), replace(whole, rows=(30, 47)))
    packing = choose_packing(format, "gguf", "exact")
    assert packing is not None
    matrix = PackedMatrix(sources, packing)
    expected = np.concatenate([source.decode() for source in sources])
    np.testing.assert_array_equal(unpack(read(matrix)), expected)
    assert matrix.relative_error() == 0.0


@pytest.mark.parametrize("format", sorted(FAST))
def test_fast_is_close_and_says_how_close(format: str, tmp_path: Path) -> None:
    source = stored(tmp_path, format)
    packing = choose_packing(format, "gguf", "fast")
    assert packing is not None
    matrix = PackedMatrix((source,), packing)
    expected = source.decode()
    error = np.linalg.norm(unpack(read(matrix)) - expected) / np.linalg.norm(expected)
    assert matrix.relative_error() == pytest.approx(error, rel=1e-4)
    assert 0 < error < 0.01


@pytest.mark.parametrize(
    ("format", "weights", "gguf", "how"),
    [
        ("F16", "gguf", "exact", None),
        ("Q8_0", "float", "exact", None),
        ("Q8_0", "gguf", "fast", "blocks Q8_0"),
        ("Q8_0", "q8_0", "exact", "blocks Q8_0"),
        ("F32", "q4_0", "exact", "quantise Q4_0"),
        ("Q6_K", "q4_0", "exact", "quantise Q4_0"),
        ("Q6_K", "gguf", "exact", "blocks Q6_K"),
    ],
)
def test_choice(format: str, weights, gguf: Gguf, how: str | None) -> None:  # type: ignore[no-untyped-def]
    packing = choose_packing(format, weights, gguf)
    assert (packing.how if packing else None) == how


@pytest.mark.parametrize("format", ["F16", "BF16"])
def test_halves_are_kept(format: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    values = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    raw = values.astype("<f2") if format == "F16" else (values.view(np.uint32) >> 16).astype("<u2")
    path.write_bytes(raw.tobytes())
    source = StoredMatrix(path, 0, format, (12, 8))
    parts = (source, replace(source, rows=(2, 5)))
    expected = np.concatenate([part.decode() for part in parts])
    for transposed in (False, True):
        tensor = half_rows(parts, "half", transposed=transposed)
        found = tensor.numpy()
        assert found.itemsize == 2 and found.shape == tuple(tensor.shape.numpy())
        wide = found.astype(np.float32)
        np.testing.assert_array_equal(wide.T if transposed else wide, expected)

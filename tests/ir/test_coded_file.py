"""Weights that algorithms made: what is written is what is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.matrices import place, place_coded

from modelc.ir.coded_file import write_weights
from modelc.ir.packing.bits import packed_width
from modelc.ir.packing.coded_rows import PARTS, dequantise_rows
from modelc.ir.packing.kinds import KINDS
from modelc.ir.packing.quantise_rows import quantise_rows


@pytest.mark.parametrize("columns", [160, 37])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_codes_are_kept(kind: str, columns: int, tmp_path: Path) -> None:
    form = KINDS[kind]
    values = np.random.default_rng(0).normal(size=(6, columns)).astype(np.float32)
    coded = quantise_rows(values, form)
    matrix = place_coded(tmp_path / "w", coded, form)
    assert matrix.shape == (6, columns) and matrix.form == form
    found = matrix.coded()
    for part in PARTS:
        array, expected = getattr(found, part), getattr(coded, part)
        assert (array is None) == (expected is None)
        if expected is not None:
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array.astype("f"), expected.astype("f"))
    numbers = dequantise_rows(coded)
    np.testing.assert_array_equal(matrix.decode(), numbers)
    np.testing.assert_array_equal(matrix.decode_rows(np.array([4, 1])), numbers[[4, 1]])
    part = replace(matrix, rows=(1, 5), transposed=True)
    np.testing.assert_array_equal(part.decode(), numbers[1:5].T)
    np.testing.assert_array_equal(dequantise_rows(part.coded(slice(2, 9))), numbers[3:5])


@pytest.mark.parametrize("kind", ["w2_b16", "u3", "w4_b32", "mxfp4", "mxfp6", "e4m3"])
def test_few_bits_take_little_room(kind: str, tmp_path: Path) -> None:
    form = KINDS[kind]
    coded = quantise_rows(np.ones((64, 256), np.float32), form)
    matrix = place_coded(tmp_path / "w", coded, form)
    assert dict(matrix.parts)["codes"].size == 64 * packed_width(256, form.bits)


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    coded = quantise_rows(np.eye(40, dtype=np.float32), KINDS["u3_b16"])
    weights = {"b": (coded, KINDS["u3_b16"]), "a": np.ones(3, np.float16)}
    write_weights(tmp_path / "one", weights)
    write_weights(tmp_path / "two", dict(reversed(weights.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    floats = place(tmp_path / "one", {"a": None})["a"]
    assert floats.format == "F16" and floats.decode().tolist() == [1, 1, 1]

"""Parts of stored weights are those parts of the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelc.ir.stored import StoredMatrix, slice_rows

HEADS, WIDTH, COLUMNS = 4, 6, 5


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.bin"
    path.write_bytes(np.random.default_rng(0).normal(0, 1, 400).astype(np.float32).tobytes())
    return path


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    vector=st.booleans(),
    fused=st.booleans(),
    permuted=st.booleans(),
    transposed=st.booleans(),
    bounds=st.tuples(st.integers(0, HEADS - 1), st.integers(1, HEADS)),
)
def test_slices_of_heads_are_the_wholes_rows(
    blob: Path,
    vector: bool,
    fused: bool,
    permuted: bool,
    transposed: bool,
    bounds: tuple[int, int],
) -> None:
    first, last = WIDTH * min(bounds), WIDTH * max(bounds[1], min(bounds) + 1)
    source = StoredMatrix(blob, 8, "F32", (HEADS * WIDTH,), unpermute_heads=HEADS * permuted)
    if not vector:
        source = replace(source, shape=(HEADS * WIDTH + 3, COLUMNS), rows=(3, 3 + HEADS * WIDTH))
        if not fused:
            source = replace(source, shape=(HEADS * WIDTH, COLUMNS), rows=None)
    whole = source.decode()
    part = slice_rows(replace(source, transposed=transposed and not vector), first, last)
    found = part.decode()
    assert np.array_equal(found.T if part.transposed else found, whole[first:last])


def test_slices_of_slices(blob: Path) -> None:
    source = StoredMatrix(blob, 0, "F32", (20, COLUMNS))
    twice = slice_rows(slice_rows(source, 4, 16), 2, 5)
    assert np.array_equal(twice.decode(), source.decode()[6:9])


def test_a_part_of_a_permuted_head_is_refused(blob: Path) -> None:
    source = StoredMatrix(blob, 0, "F32", (HEADS * WIDTH, COLUMNS), unpermute_heads=HEADS)
    with pytest.raises(AssertionError, match="a part of a head"):
        slice_rows(source, 0, WIDTH - 1)

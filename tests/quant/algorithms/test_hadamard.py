"""Rotations against the definition of a Hadamard matrix, and of an orthogonal one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.quant.algorithms.hadamard import hadamard, random_rotation


@pytest.mark.parametrize("size", [1, 2, 4, 8, 12, 20, 24, 28, 36, 44, 48, 60, 64, 76, 108, 256])
def test_rows_are_orthogonal(size: int) -> None:
    matrix = hadamard(size)
    assert matrix is not None
    assert set(np.unique(matrix)) <= {-1, 1}
    wide = matrix.astype(np.int64)
    assert np.array_equal(wide @ wide.T, size * np.eye(size, dtype=np.int64))


@pytest.mark.parametrize("size", [3, 6, 10, 50])
def test_there_is_none_of_other_sizes(size: int) -> None:
    assert hadamard(size) is None


@settings(max_examples=30)
@given(size=st.integers(1, 300), seed=st.integers(0, 5))
def test_rotations_are_orthogonal(size: int, seed: int) -> None:
    matrix = random_rotation(size, seed).rotate(np.eye(size, dtype=np.float32))
    assert np.allclose(matrix @ matrix.T, np.eye(size), atol=1e-5)


@pytest.mark.parametrize("size", [64, 128, 256, 896, 960, 1536, 2560, 3072, 3584, 5120])
def test_one_channel_is_shared_by_all(size: int) -> None:
    rotation = random_rotation(size, 0)
    outlier = np.zeros((1, size), np.float32)
    outlier[0, size // 3] = 100
    spread = np.abs(rotation.rotate(outlier))
    assert rotation.hadamard
    assert np.allclose(spread, 100 / np.sqrt(size), rtol=1e-5)


def test_other_sizes_get_some_orthogonal_matrix() -> None:
    rotation = random_rotation(6, 0)
    assert not rotation.hadamard
    assert len(rotation.left) == 3, "the odd part alone; the rest is of Sylvester's kind"


def test_the_seed_decides() -> None:
    eye = np.eye(24, dtype=np.float32)
    once, again, other = (random_rotation(24, seed).rotate(eye) for seed in (1, 1, 2))
    random_rotation.cache_clear()
    fresh = random_rotation(24, 1).rotate(eye)
    assert np.array_equal(once, again) and np.array_equal(once, fresh)
    assert not np.array_equal(once, other)

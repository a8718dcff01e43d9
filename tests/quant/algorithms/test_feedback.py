"""Sweeps over columns do what their loops would, and no step of refinement makes errors larger."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.ir.packing.kinds import KINDS
from modelc.quant.algorithms.feedback import cascade, descend
from modelc.quant.algorithms.hessian import damped, output_errors, second_moments
from modelc.quant.algorithms.layer import Floats
from modelc.quant.algorithms.refit import refit
from modelc.quant.algorithms.search import ranged, with_multiples


@settings(max_examples=15)
@given(st.integers(0, 9), st.integers(0, 99))
def test_a_cascade_is_a_loop_over_rows(rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    given_targets = random.normal(size=(rows, 3)).astype(np.float32)
    feed = random.normal(size=(rows, rows)).astype(np.float32)
    seen: list[Floats] = []

    def visit(row: int, target: Floats) -> Floats:
        assert row == len(seen)
        seen.append(target.copy())
        return np.tanh(target)

    cascade(given_targets.copy(), feed, visit)
    wanted = given_targets.astype(np.float64)
    for row in range(rows):
        for before in range(row):
            wanted[row] += feed[before, row] * np.tanh(wanted[before])
    np.testing.assert_allclose(np.reshape(seen, wanted.shape), wanted, atol=1e-4)


@pytest.mark.parametrize("kind", ["w4", "w4_b16", "w4_lpbq", "u4_b16", "w3", "mxfp4", "e4m3"])
def test_refinement_never_loses_more(kind: str) -> None:
    for seed in range(3):
        random = np.random.default_rng(seed)
        weights = random.standard_t(4, (20, 64)).astype(np.float32)
        inputs = (random.normal(size=(90, 64)) @ random.normal(size=(64, 64))).astype(np.float32)
        moments = damped(second_moments(inputs), 0.01)
        grid = with_multiples(ranged(weights, KINDS[kind]))
        levels = grid.to_levels(weights)
        lost = [output_errors(weights - levels * grid.steps(64), moments)]
        for _ in range(3):
            levels = descend(weights, moments, grid, levels, random.permutation(64))
            lost.append(output_errors(weights - levels * grid.steps(64), moments))
            grid = refit(weights, moments, grid, levels)
            lost.append(output_errors(weights - levels * grid.steps(64), moments))
        for before, after in pairwise(lost):
            assert np.all(after <= before * 1.001 + 1e-6)
        assert lost[-1].sum() < 0.7 * lost[0].sum()

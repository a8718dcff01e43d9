"""Fits the scales of a matrix to levels that are chosen already."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from modelc.ir.packing.kinds import FloatForm, IntegerForm
from modelc.quant.algorithms.grid import Grid
from modelc.quant.algorithms.layer import Floats

_MOST_CHANGE: Final = 2.0


def refit(weights: Floats, moments: Floats, grid: Grid, levels: Floats) -> Grid:
    """Return a grid on which the levels [rows, n] lose no more of (W - Wq) H (W - Wq)'.

    Each block's scale in turn gets its least squares value while the others stay: with one scale
    for a row that is the best one. Scales that rows share, and powers of two, stay as they are.
    """
    form = grid.form
    if form.block_rows != 1 or (isinstance(form, FloatForm) and form.power_scales):
        return grid
    columns = weights.shape[1]
    block = form.block or columns
    scales = grid.block_scales
    factors = np.ones_like(scales)
    errors = weights - levels * grid.steps(columns)
    for index, first in enumerate(range(0, columns, block)):
        here = slice(first, first + block)
        part = levels[:, here] * scales[:, index : index + 1]
        best = _best_factor(errors @ moments[:, here], part, moments[here, here])
        factors[:, index] = _whole(best, grid, index)
        errors[:, here] -= part * (factors[:, index] - 1)[:, None]
    fitted = grid.scaled(factors)
    if grid.multiples is None:
        return fitted
    values = levels * fitted.steps(columns)
    factor = _best_factor((weights - values) @ moments, values, moments)
    return replace(fitted, scales=fitted.scales * factor[:, None])


def _best_factor(slopes: Floats, values: Floats, moments: Floats) -> Floats:
    """Return what to multiply each row of values [rows, k] by; slopes are errors times H."""
    slope = np.einsum("rk,rk->r", slopes, values)
    curve = np.einsum("rk,rk->r", values @ moments, values)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = 1 + slope / curve
    usable = (factor > 1 / _MOST_CHANGE) & (factor < _MOST_CHANGE)  # never where it is NaN
    kept: Floats = np.where(usable, factor, np.float32(1))
    return kept


def _whole(factors: Floats, grid: Grid, index: int) -> Floats:
    """Return the factors nearest to these that keep multiples whole."""
    if grid.multiples is None:
        return factors
    assert isinstance(grid.form, IntegerForm)
    old = grid.multiples[:, index].astype(np.float32)
    new: Floats = np.clip(np.rint(old * factors), 1, (1 << grid.form.scale_bits) - 1)
    return new / old

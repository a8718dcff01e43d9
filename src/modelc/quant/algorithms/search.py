"""Chooses the scales of a matrix: of some that shrink its range, the ones that lose least."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.integer_rows import as_multiples
from modelc.ir.packing.kinds import FloatForm, Form, IntegerForm
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.packing.scale_search import not_zero
from modelc.quant.algorithms.grid import Grid
from modelc.quant.algorithms.layer import Floats

SHRINKS: Final = tuple(np.linspace(1.1, 0.35, 31).tolist())
"""What the largest magnitude of a block is multiplied by before it gets the last code; one over 1
is of use where codes reach further to one side."""
_POWERS: Final = (2.0, 1.0, 0.5)

Loss = Callable[[Floats], Floats]
"""Errors of weights, float32 [rows, columns], to what each block loses by them [rows, blocks]."""


def search(weights: Floats, form: Form, loss: Loss, shrinks: Sequence[float] = SHRINKS) -> Grid:
    """Return the grid of least loss, of those that have every range shrunk by one of `shrinks`."""
    if isinstance(form, FloatForm) and form.power_scales:
        shrinks = _POWERS

    def lost_on(grid: Grid) -> Floats:
        values = grid.to_levels(weights) * grid.steps(weights.shape[1])
        return _shared(loss(weights - values), form)

    chosen = ranged(weights, form, shrinks[0])
    best = lost_on(chosen)
    for shrink in shrinks[1:]:
        grid = ranged(weights, form, shrink)
        lost = lost_on(grid)
        better = lost < best
        best = np.where(better, lost, best)
        chosen = _merged(better, grid, chosen)
    return with_multiples(chosen)


def ranged(weights: Floats, form: Form, shrink: float = 1.0) -> Grid:
    """Return the grid whose last level is at the largest magnitude of a block, times `shrink`;
    LPBQ's scales are not multiples yet."""
    if isinstance(form, FloatForm):
        return Grid(form, not_zero(quantise_rows(weights, form).scales * np.float32(shrink)))
    if form.symmetric:
        peaks = _reduced(np.maximum, np.abs(weights), form)
        return Grid(form, not_zero(peaks * np.float32(shrink / form.highest)))
    low = np.minimum(_reduced(np.minimum, weights, form), 0) * np.float32(shrink)
    high = np.maximum(_reduced(np.maximum, weights, form), 0) * np.float32(shrink)
    steps = not_zero((high - low) / np.float32(form.highest))
    zeros = np.clip(np.rint(-low / steps), 0, form.highest).astype(np.uint8)
    return Grid(form, steps, zeros=zeros)


def with_multiples(grid: Grid) -> Grid:
    """Return LPBQ's grid nearest to one with free scales; any other as it is."""
    form = grid.form
    if not isinstance(form, IntegerForm) or not form.scale_bits or grid.multiples is not None:
        return grid
    scales, multiples = as_multiples(grid.scales, (1 << form.scale_bits) - 1)
    return Grid(form, scales, multiples)


def weighted_loss(weight: Floats, block: int) -> Loss:
    """Return a loss: squared errors, each times the weight of its column [columns], or a weight of
    its own [rows, columns]."""
    columns = weight.shape[-1]
    lefts = np.arange(0, columns, block or columns)

    def loss(errors: Floats) -> Floats:
        lost: Floats = np.add.reduceat(errors * errors * weight, lefts, axis=1)
        return lost

    return loss


def _reduced(reduce: np.ufunc, values: Floats, form: IntegerForm) -> Floats:
    rows, columns = values.shape
    found: Floats = reduce.reduceat(values, np.arange(0, columns, form.block or columns), axis=1)
    return found if form.block_rows else np.repeat(reduce.reduce(found)[None], rows, axis=0)


def _shared(lost: Floats, form: Form) -> Floats:
    """Sum over the rows that share scales."""
    rows = len(lost)
    height = form.block_rows or rows
    if height == 1:
        return lost
    summed = np.add.reduceat(lost, np.arange(0, rows, height), axis=0)
    repeated: Floats = np.repeat(summed, height, axis=0)[:rows]
    return repeated


def _merged(better: NDArray[np.bool_], grid: Grid, other: Grid) -> Grid:
    scales = np.where(better, grid.scales, other.scales)
    if grid.zeros is None or other.zeros is None:
        return Grid(grid.form, scales)
    return Grid(grid.form, scales, zeros=np.where(better, grid.zeros, other.zeros))

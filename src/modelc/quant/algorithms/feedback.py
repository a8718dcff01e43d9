"""Rounds the columns of a matrix one after the other, each making up for those before it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelc.quant.algorithms.grid import Grid, nearest_levels
from modelc.quant.algorithms.layer import Floats

Visit = Callable[[int, Floats], Floats]


def cascade(targets: Floats, feed: Floats, visit: Visit) -> None:
    """Visit rows of targets [n, k] in order; what a visit returns changes the targets behind it.

    When row j is visited, targets[j] has become targets[j] + sum over i < j of
    feed[i, j] * visit(i, targets[i]). Ranges are halved, and one half is fed to the other by one
    product: the lazy updates of GPTQ, at every size of block.

    Args:
        targets: float32 [n, k], overwritten.
        feed: float32 [n, n]; only what is above the diagonal is read.
    """
    if len(targets):
        _cascade(targets, np.empty_like(targets), feed, visit, 0, len(targets))


def _cascade(
    targets: Floats, given: Floats, feed: Floats, visit: Visit, first: int, last: int
) -> None:
    if last - first == 1:
        given[first] = visit(first, targets[first])
        return
    middle = (first + last) // 2
    _cascade(targets, given, feed, visit, first, middle)
    targets[middle:last] += feed[first:middle, middle:last].T @ given[first:middle]
    _cascade(targets, given, feed, visit, middle, last)


def round_with_feedback(weights: Floats, moments: Floats, grid: Grid, order: np.ndarray) -> Floats:
    """Return levels [rows, n] that keep (W - Wq) H (W - Wq)' small: GPTQ's, by way of LDLQ.

    With H = (U + I) D (U + I)', U strictly upper, column k becomes the nearest of
    w_k + (W - Wq)[:, :k] U[:k, k]. Chee et al. 2023 (QuIP, theorem 6) show that this is what GPTQ
    makes; it needs one Cholesky decomposition of H, and no inverse.

    Args:
        weights: float32 [rows, n].
        moments: H, float32 [n, n], definite.
        order: in which columns are rounded, [n].
    """
    columns = weights.shape[1]
    upper = _upper_factor(moments[np.ix_(order, order)])
    upper /= np.diagonal(upper).copy()
    turned = _Turned(grid, columns, order)
    given = np.ascontiguousarray(weights.T[order])
    levels = np.empty_like(given)

    def visit(column: int, target: Floats) -> Floats:
        levels[column] = turned.nearest(column, target)
        error: Floats = given[column] - levels[column] * turned.step(column)
        return error

    cascade(given.copy(), upper, visit)
    return _back(levels, order)


def descend(
    weights: Floats, moments: Floats, grid: Grid, levels: Floats, order: np.ndarray
) -> Floats:
    """Return levels [rows, n] of no larger error: each column in turn takes those that are best
    while all others stay (coordinate descent; Behdin et al. 2023, QuantEase)."""
    columns = weights.shape[1]
    sorted_moments = moments[np.ix_(order, order)]
    diagonal = np.diagonal(sorted_moments).copy()
    turned = _Turned(grid, columns, order)
    old = np.ascontiguousarray(levels.T[order])
    new = np.empty_like(old)
    errors = np.ascontiguousarray((weights - levels * grid.steps(columns)).T[order])
    targets = sorted_moments @ errors
    targets /= diagonal[:, None]
    for column in range(columns):
        targets[column] += old[column] * turned.step(column)

    def visit(column: int, target: Floats) -> Floats:
        new[column] = turned.nearest(column, target)
        change: Floats = (old[column] - new[column]) * turned.step(column)
        return change

    sorted_moments /= diagonal
    cascade(targets, sorted_moments, visit)
    return _back(new, order)


class _Turned:
    """A grid whose columns lie in rows, in another order."""

    def __init__(self, grid: Grid, columns: int, order: np.ndarray) -> None:
        self._form = grid.form
        self._steps, self._low, self._high = (
            _turn(array, order) for array in (grid.steps(columns), *grid.bounds(columns))
        )

    def step(self, column: int) -> Floats:
        step: Floats = self._steps[column if len(self._steps) > 1 else 0]
        return step

    def nearest(self, column: int, values: Floats) -> Floats:
        at = column if len(self._low) > 1 else 0
        ratios = values / self.step(column)
        return nearest_levels(ratios, self._low[at], self._high[at], self._form)


def _turn(array: Floats, order: np.ndarray) -> Floats:
    return np.ascontiguousarray(array.T[order] if array.shape[1] > 1 else array.T)


def _back(levels: Floats, order: np.ndarray) -> Floats:
    result = np.empty(levels.shape[::-1], np.float32)
    result[:, order] = levels.T
    return result


def _upper_factor(moments: Floats) -> Floats:
    """Return U, upper, of H = U U': the lower factor of H turned around, turned around."""
    lower = np.linalg.cholesky(moments[::-1, ::-1])
    return np.ascontiguousarray(lower[::-1, ::-1])

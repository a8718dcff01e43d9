"""AdaRound: whether a weight is rounded up or down is learned from the error of the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import FloatForm, Form
from modelc.quant.algorithms.grid import Grid
from modelc.quant.algorithms.hessian import damped, moments_of, output_errors, times_moments
from modelc.quant.algorithms.layer import Algorithm, Floats, Layer
from modelc.quant.algorithms.search import search, weighted_loss

_ZETA: Final = np.float32(1.1)
_GAMMA: Final = np.float32(-0.1)
_DECAYS: Final = (0.9, 0.999)  # of Adam's two moments
_BETAS: Final = (20.0, 2.0)
_ROWS: Final = 64
"""Learned at a time; none depends on another."""


@dataclass(frozen=True)
class AdaRound(Algorithm):
    """Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization".

    Each weight is between two levels: floor + h, h in [0, 1] a stretched sigmoid of what is
    learned. The loss of a row is e H e' of its errors e, so that its gradient, 2 e H, needs none of
    the inputs; a penalty, 1 - |2 h - 1|^beta, drives h to an end. A row that comes out no better
    than rounded to nearest is rounded to nearest.

    Attributes:
        iterations: of Adam; each costs one product [rows, n] x [n, n].
        rate: of learning.
        penalty: weight of a weight's penalty, against its share of the loss when all are rounded to
            nearest.
        warm: part of the iterations without the penalty.
        damping: part of the mean of H's diagonal that is added to it.
    """

    name: ClassVar[str] = "adaround"
    needs_inputs: ClassVar[bool] = True

    iterations: int = 200
    rate: float = 0.05
    penalty: float = 10.0
    warm: float = 0.2
    damping: float = 0.1

    def check(self, config: DecoderConfig) -> None:
        del config
        if self.iterations < 1:
            raise BadInput("adaround needs at least one iteration", hint="200 is the default")

    def apply(self, layer: Layer) -> None:
        for module, weights, form, moments in moments_of(layer):
            layer.coded[module] = self.round(weights, form, damped(moments, self.damping))

    def round(self, weights: Floats, form: Form, moments: Floats) -> CodedRows:
        """Return weights [rows, n] as codes, for the damped second moments of the inputs [n, n]; or
        [groups, n, n], if the rows are those of one group after the other, as many of each.

        Raises:
            BadInput: the levels of `form` are not whole numbers.
        """
        if isinstance(form, FloatForm):
            raise BadInput(f"adaround can't round to {form}", hint="gptq can")
        diagonals = np.diagonal(moments, axis1=-2, axis2=-1)
        if moments.ndim == 3:
            diagonals = np.repeat(diagonals, len(weights) // len(moments), axis=0)
        grid = search(weights, form, weighted_loss(diagonals, form.block))
        levels = grid.to_levels(weights)
        for rows, own in _parts(len(weights), moments):
            levels[rows] = self._learned(weights[rows], grid.rows(rows), own, levels[rows])
        return grid.coded(levels)

    def _learned(self, weights: Floats, grid: Grid, moments: Floats, nearest: Floats) -> Floats:
        steps, (lowest, highest) = grid.steps(weights.shape[1]), grid.bounds(weights.shape[1])
        ratios = weights / steps
        floors = np.floor(ratios)
        learned = _inverse(ratios - floors)
        wanted = output_errors(weights - nearest * steps, moments)
        unit = np.maximum(wanted, np.finfo(np.float32).tiny)[:, None] / weights.shape[1]
        first, second = np.zeros_like(learned), np.zeros_like(learned)
        for step in range(self.iterations):
            raised, slope = _raised(learned)
            soft = floors + raised
            errors = np.clip(soft, lowest, highest) * steps - weights
            inside = (soft >= lowest) & (soft <= highest)
            gradient = 2 * times_moments(errors, moments) * steps * inside / unit
            gradient += self._pull(raised, step)
            gradient *= slope
            learned -= np.float32(self.rate) * _adam(gradient, first, second, step + 1)
        levels = np.clip(floors + (learned > 0), lowest, highest)
        better = output_errors(weights - levels * steps, moments) < wanted
        kept: Floats = np.where(better[:, None], levels, nearest)
        return kept

    def _pull(self, raised: Floats, step: int) -> Floats | np.float32:
        """Return the penalty's derivative; beta falls, so that it reaches further and further."""
        done = (step / self.iterations - self.warm) / max(1 - self.warm, 1e-6)
        if done <= 0:
            return np.float32(0)
        beta = np.float32(_BETAS[1] + (_BETAS[0] - _BETAS[1]) * (1 + np.cos(np.pi * done)) / 2)
        side = 2 * raised - 1
        pull: Floats = -2 * beta * np.abs(side) ** (beta - 1) * np.sign(side)
        return pull * np.float32(self.penalty)


def _parts(rows: int, moments: Floats) -> Iterator[tuple[slice, Floats]]:
    """Yield rows that are learned together, whole groups if there are any, and their moments."""
    if moments.ndim == 2:
        for first in range(0, rows, _ROWS):
            yield slice(first, first + _ROWS), moments
        return
    height = rows // len(moments)
    most = max(1, _ROWS // height)
    for first in range(0, len(moments), most):
        own = moments[first : first + most]
        yield slice(first * height, (first + len(own)) * height), own


def _raised(learned: Floats) -> tuple[Floats, Floats]:
    """Return the rectified sigmoid and its derivative."""
    sigmoid: Floats = np.reciprocal(1 + np.exp(-learned))
    stretched = sigmoid * (_ZETA - _GAMMA) + _GAMMA
    slope: Floats = sigmoid * (1 - sigmoid) * (_ZETA - _GAMMA)
    slope *= (stretched > 0) & (stretched < 1)
    return np.clip(stretched, 0, 1), slope


def _inverse(raised: Floats) -> Floats:
    """Return what gives these by the rectified sigmoid."""
    inverse: Floats = -np.log((_ZETA - _GAMMA) / (raised - _GAMMA) - 1)
    return inverse


def _adam(gradient: Floats, first: Floats, second: Floats, step: int) -> Floats:
    """Return Adam's direction (Kingma and Ba 2014); moments are updated in place."""
    a, b = _DECAYS
    first *= np.float32(a)
    first += np.float32(1 - a) * gradient
    second *= np.float32(b)
    second += np.float32(1 - b) * gradient * gradient
    direction: Floats = first / np.float32(1 - a**step)
    direction /= np.sqrt(second / np.float32(1 - b**step)) + np.float32(1e-8)
    return direction

"""The numbers that a matrix's weights may become, once its scales are chosen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.coded_rows import CodedRows, over_columns
from modelc.ir.packing.kinds import FloatForm, Form, IntegerForm
from modelc.quant.algorithms.layer import Floats


@dataclass(frozen=True)
class Grid:
    """Scales, multiples and zeros of a matrix, as `CodedRows` has them.

    A weight becomes level * step: its step is the scale of its block, its level a whole number
    (code - zero) or a small float.
    """

    form: Form
    scales: Floats
    multiples: NDArray[np.uint8] | None = None
    zeros: NDArray[np.uint8] | None = None

    @property
    def block_scales(self) -> Floats:
        """The scale of every block, float32 [rows, blocks]."""
        return self.scales if self.multiples is None else self.scales * self.multiples

    def steps(self, columns: int) -> Floats:
        """Return float32 [rows, columns], or [rows, 1] where a row has one scale."""
        return over_columns(self.block_scales, columns, self.form.block)

    def bounds(self, columns: int) -> tuple[Floats, Floats]:
        """Return the lowest and highest level, broadcast like `steps`."""
        if isinstance(self.form, FloatForm):
            highest = np.full((1, 1), self.form.highest, np.float32)
            return -highest, highest
        low = np.full((1, 1), self.form.lowest, np.float32)
        high = np.full((1, 1), self.form.highest, np.float32)
        if self.zeros is None:
            return low, high
        zeros = over_columns(self.zeros.astype(np.float32), columns, self.form.block)
        return low - zeros, high - zeros

    def to_levels(self, values: Floats) -> Floats:
        """Return the nearest level of each weight, float32 [rows, columns]."""
        columns = values.shape[1]
        return nearest_levels(values / self.steps(columns), *self.bounds(columns), self.form)

    def coded(self, levels: Floats) -> CodedRows:
        """Return levels [rows, columns] as codes."""
        codes = levels
        if self.zeros is not None:
            zeros = self.zeros.astype(np.float32)
            codes = levels + over_columns(zeros, levels.shape[1], self.form.block)
        cast: NDArray[Any] = codes.astype(self.form.array_type)
        return CodedRows(cast, self.scales, self.multiples, self.zeros, self.form.block)

    def rows(self, rows: slice) -> Grid:
        """Return the grid of some rows."""
        parts = (self.multiples, self.zeros)
        multiples, zeros = (None if part is None else part[rows] for part in parts)
        return Grid(self.form, self.scales[rows], multiples, zeros)

    def scaled(self, factors: Floats) -> Grid:
        """Return it with every block's scale multiplied, float32 [rows, blocks].

        Multiples stay whole: each becomes the nearest one.
        """
        if self.multiples is None:
            return replace(self, scales=self.scales * factors)
        assert isinstance(self.form, IntegerForm)
        most = (1 << self.form.scale_bits) - 1
        multiples = np.clip(np.rint(self.multiples * factors), 1, most).astype(np.uint8)
        return replace(self, multiples=multiples)


def nearest_levels(ratios: Floats, lowest: Floats, highest: Floats, form: Form) -> Floats:
    """Return the nearest level of each weight / step, in place if it can be."""
    np.clip(ratios, lowest, highest, out=ratios)
    if isinstance(form, FloatForm):
        return ratios.astype(form.array_type).astype(np.float32)
    return np.rint(ratios, out=ratios)

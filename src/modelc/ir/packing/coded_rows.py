"""Rows of a matrix as codes and scales: what every way of quantising weights makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class CodedRows:
    """Rows (output channels) whose numbers are (code - zero) * scale of their block.

    ``codes``     [rows, columns]; int8 or int16, uint8 if there are zeros, or a small float's type
    ``scales``    float32 [rows, blocks]; where there are multiples [rows, 1]
    ``multiples`` uint8   [rows, blocks]: a block's scale is this many times its channel's
    ``zeros``     uint8   [rows, blocks]; absent: all 0

    Scales that several rows share are repeated. Only the last block of a row may be narrower than
    the ``block`` columns of the others; 0 is all of a row.
    """

    codes: NDArray[Any]
    scales: NDArray[np.float32]
    multiples: NDArray[np.uint8] | None = None
    zeros: NDArray[np.uint8] | None = None
    block: int = 0

    @property
    def block_scales(self) -> NDArray[np.float32]:
        """The scale of every block, float32 [rows, blocks]."""
        return self.scales if self.multiples is None else self.scales * self.multiples


PARTS = ("codes", "scales", "multiples", "zeros")


def dequantise_rows(coded: CodedRows) -> NDArray[np.float32]:
    """Return the numbers that the codes stand for, float32 [rows, columns]."""
    values: NDArray[np.float32] = coded.codes.astype(np.float32)
    if coded.zeros is not None:
        values -= over_columns(coded.zeros.astype(np.float32), values.shape[1], coded.block)
    values *= over_columns(coded.block_scales, values.shape[1], coded.block)
    return values


def over_columns(per_block: NDArray[Number], columns: int, block: int) -> NDArray[Number]:
    """Return what columns have of numbers of blocks [rows, blocks]: [rows, columns] or [rows, 1]"""
    if per_block.shape[1] == 1:
        return per_block
    return np.repeat(per_block, block, axis=1)[:, :columns]

"""Rows of float32 to small floats and their scales.

Sources: OCP 8-bit Floating Point Specification 1.0; OCP Microscaling Formats Specification 1.0
(section 6.3: a block's scale is the largest power of two that its largest magnitude holds, over
that of the element type).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.coded_rows import CodedRows, over_columns
from modelc.ir.packing.kinds import FloatForm
from modelc.ir.packing.scale_search import not_zero

_LOWEST_POWER: Final = -127  # of E8M0


def quantise_floats(
    values: NDArray[np.float32], form: FloatForm, scales: NDArray[np.float32] | None = None
) -> CodedRows:
    """Quantise [rows, columns] to nearest (ties to even); what scales don't reach becomes the
    largest finite number.

    Args:
        scales: float32 [rows, blocks], if they are chosen already.
    """
    if scales is None:
        scales = _scales(values, form)
    ratios = values / over_columns(scales, values.shape[1], form.block)
    np.clip(ratios, np.float32(-form.highest), np.float32(form.highest), out=ratios)
    return CodedRows(ratios.astype(form.array_type), scales, block=form.block)


def _scales(values: NDArray[np.float32], form: FloatForm) -> NDArray[np.float32]:
    """Return float32 [rows, blocks]; those that rows share are repeated."""
    rows, columns = values.shape
    height, width = form.block_rows or rows, form.block or columns
    tops, lefts = np.arange(0, rows, height), np.arange(0, columns, width)
    peaks: NDArray[np.float32] = np.maximum.reduceat(
        np.abs(values), lefts, axis=1
    )  # the last block may be narrower
    peaks = np.maximum.reduceat(peaks, tops, axis=0)
    if form.power_scales:
        power = np.floor(np.log2(not_zero(peaks))) - np.floor(np.log2(np.float32(form.highest)))
        scales = np.exp2(np.maximum(power, _LOWEST_POWER)).astype(np.float32)
    else:
        scales = not_zero(peaks / np.float32(form.highest))
    repeated: NDArray[np.float32] = np.repeat(scales, height, axis=0)[:rows]
    return repeated

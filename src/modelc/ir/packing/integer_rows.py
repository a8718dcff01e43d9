"""Rows of float32 to integer codes and their scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.kinds import IntegerForm
from modelc.ir.packing.scale_search import (
    BLOCK_TRIALS,
    CHANNEL_TRIALS,
    best_scales,
    not_zero,
    peak_magnitudes,
    round_to,
)


@dataclass(frozen=True, slots=True)
class IntegerRows:
    """Rows (output channels) whose numbers are code * scale of their block.

    ``codes``     int8    [rows, columns]; int16 if they have 16 bits
    ``scales``    float32 [rows, blocks]; where there are multiples [rows, 1]
    ``multiples`` uint8   [rows, blocks]: a block's scale is this many times its channel's
    """

    codes: NDArray[np.signedinteger[Any]]
    scales: NDArray[np.float32]
    multiples: NDArray[np.uint8] | None = None


def quantise_rows(
    values: NDArray[np.float32],
    form: IntegerForm,
    scales: NDArray[np.float32] | None = None,
    multiples: NDArray[np.uint8] | None = None,
) -> IntegerRows:
    """Quantise [rows, columns] to nearest: 4 bits with the scales of least squared error, more with
    the largest magnitude at the last code.

    Args:
        scales, multiples: as `IntegerRows` has them, if they are chosen already; what they don't
            reach becomes the last code on its side.
    """
    blocks = np.ascontiguousarray(values).reshape(-1, form.block or values.shape[1])
    lowest = form.lowest
    if scales is None:
        scales, multiples = _search(blocks, len(values), form)
    else:
        lowest = -form.highest - 1
    ratios = blocks / block_scales(scales, multiples).reshape(-1, 1)
    round_to(ratios, lowest, form.highest)
    codes: NDArray[Any] = ratios.reshape(values.shape).astype(f"i{max(form.bits // 8, 1)}")
    return IntegerRows(codes, scales, multiples)


def block_scales(
    scales: NDArray[np.float32], multiples: NDArray[np.uint8] | None
) -> NDArray[np.float32]:
    """Return the scale of every block, float32 [rows, blocks]."""
    return scales if multiples is None else scales * multiples


def _search(
    blocks: NDArray[np.float32], rows: int, form: IntegerForm
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
    if form.bits == 4:
        trials = BLOCK_TRIALS if form.block else CHANNEL_TRIALS
        scales = best_scales(blocks, form.lowest, form.highest, trials)
    else:
        scales = not_zero(peak_magnitudes(blocks) / np.float32(form.highest))
    scales = scales.reshape(rows, -1)
    return _as_multiples(scales, (1 << form.scale_bits) - 1) if form.scale_bits else (scales, None)


def _as_multiples(
    scales: NDArray[np.float32], most: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scales [rows, blocks] as whole multiples, at least one, of the row's largest / `most`."""
    steps = not_zero(scales.max(-1, keepdims=True) / np.float32(most))
    return steps, np.clip(np.rint(scales / steps), 1, most).astype(np.uint8)

"""Rows of float32 to integer codes and their scales."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.coded_rows import CodedRows, over_columns
from modelc.ir.packing.kinds import IntegerForm
from modelc.ir.packing.scale_search import (
    BLOCK_TRIALS,
    CHANNEL_TRIALS,
    best_ranges,
    best_scales,
    not_zero,
    peak_magnitudes,
    round_to,
)


def quantise_integers(
    values: NDArray[np.float32],
    form: IntegerForm,
    scales: NDArray[np.float32] | None = None,
    multiples: NDArray[np.uint8] | None = None,
    zeros: NDArray[np.uint8] | None = None,
) -> CodedRows:
    """Quantise [rows, columns] to nearest: 4 bits and less with the scales of least squared error,
    more with the largest magnitude at the last code. The last block of a row may be narrower.

    Args:
        scales, multiples, zeros: as `CodedRows` has them, if they are chosen already; what they
            don't reach becomes the last code on its side.
    """
    columns, lowest = values.shape[1], form.lowest
    if scales is None:
        scales, multiples, zeros = _search(values, form)
    elif form.symmetric:
        lowest = -form.highest - 1
    every = scales if multiples is None else scales * multiples
    codes = values / over_columns(every, columns, form.block)
    if zeros is not None:
        codes += over_columns(zeros.astype(np.float32), columns, form.block)
    round_to(codes, lowest, form.highest)
    return CodedRows(codes.astype(form.array_type), scales, multiples, zeros, form.block)


def _search(
    values: NDArray[np.float32], form: IntegerForm
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, NDArray[np.uint8] | None]:
    """Return scales, multiples and zeros; those that rows share are repeated."""
    rows, columns = values.shape
    if not form.block_rows:
        assert not form.block, "blocks that all rows share"
        blocks = np.ascontiguousarray(values).reshape(1, -1)
    else:
        blocks = _in_blocks(values, form.block or columns)
    if not form.symmetric:
        low_scales, zeros = best_ranges(blocks, form.highest, searched=form.bits <= 4)
        return low_scales.reshape(rows, -1), None, zeros.reshape(rows, -1)
    if form.bits <= 4:
        trials = BLOCK_TRIALS if form.block else CHANNEL_TRIALS
        step = form.highest / 7  # the trials are those of 4 bits
        scales = best_scales(blocks, form.lowest, form.highest, [trial * step for trial in trials])
    else:
        scales = not_zero(peak_magnitudes(blocks) / np.float32(form.highest))
    if not form.block_rows:
        return np.repeat(scales[:, None], rows, axis=0), None, None
    scales = scales.reshape(rows, -1)
    if form.scale_bits:
        return (*as_multiples(scales, (1 << form.scale_bits) - 1), None)
    return scales, None, None


def _in_blocks(values: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Return the blocks of [rows, columns], float32 [n, block], the last one of a row filled up
    with zeros: they are exact under any scale."""
    missing = -values.shape[1] % block
    if missing:
        values = np.pad(values, ((0, 0), (0, missing)))
    return np.ascontiguousarray(values).reshape(-1, block)


def as_multiples(
    scales: NDArray[np.float32], most: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scales [rows, blocks] as whole multiples, at least one, of the row's largest / `most`."""
    steps = not_zero(scales.max(-1, keepdims=True) / np.float32(most))
    return steps, np.clip(np.rint(scales / steps), 1, most).astype(np.uint8)

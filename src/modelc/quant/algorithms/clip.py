"""AWQ's clipping: weights that are rare and large are cut off where the outputs lose less by it.

Source: `auto_clip` of the code to Lin et al. 2023, "AWQ" (arXiv 2306.00978).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.kinds import Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.quant.algorithms.layer import Floats

SHRINKS: Final = tuple(1 - step / 20 for step in range(10))


def clip_to_inputs(matrix: Floats, inputs: Floats, form: Form) -> Floats:
    """Return a matrix [rows, k] whose every block is clipped to the share of its range, of
    `SHRINKS`, with which it adds the least error to the outputs, once it is rounded.

    Args:
        inputs: float32 [tokens, k].
        form: with scales that no rows share.
    """
    width = form.block or matrix.shape[1]
    blocks, parts = _in_blocks(matrix, width), _in_blocks(inputs, width)
    moments = parts.transpose(1, 2, 0) @ parts.swapaxes(0, 1)  # [blocks, width, width]
    peaks = np.abs(blocks).max(axis=-1, keepdims=True)
    least, limits = np.full_like(peaks, np.inf), peaks.copy()
    for shrink in SHRINKS:
        limit = peaks * np.float32(shrink)
        clipped = _clipped(blocks, limit, matrix.shape)
        lost = _in_blocks(dequantise_rows(quantise_rows(clipped, form)) - matrix, width)
        turned = (lost.swapaxes(0, 1) @ moments).swapaxes(0, 1)
        error = (turned * lost).sum(axis=-1, keepdims=True)
        better = error < least
        np.copyto(least, error, where=better)
        np.copyto(limits, limit, where=better)
    return _clipped(blocks, limits, matrix.shape)


def _in_blocks(rows: Floats, width: int) -> Floats:
    """Return [rows, blocks, width], the last block filled up with zeros."""
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % width)))
    return filled.reshape(len(rows), -1, width)


def _clipped(blocks: Floats, limits: Floats, shape: tuple[int, ...]) -> Floats:
    clipped: Floats = np.clip(blocks, -limits, limits).reshape(len(blocks), -1)
    return np.ascontiguousarray(clipped[:, : shape[1]])

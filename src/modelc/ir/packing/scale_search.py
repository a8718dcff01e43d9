"""The scale with which few bits lose the least of a row, by trying some.

For given codes q of the numbers x the best scale is sum(x q) / sum(q q), and what is left of
sum(x x) after subtracting sum(x q)^2 / sum(q q) is the squared error: so each trial costs one
rounding and two sums. Source: make_qx_quants of ggml-quants.c, in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# What the largest magnitude of a row is rounded to in each trial; beyond 7 it is clipped. 8 finds
# the scales of Q4_0's blocks again. The longer a row and its tails, the more clipping pays.
BLOCK_TRIALS: Final = (7.0, 7.5, 8.0, 8.5, 9.0)
CHANNEL_TRIALS: Final = (7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 17.0, 20.0)
# What a row's range is shrunk by in each trial, where codes have a zero.
RANGE_TRIALS: Final = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)

_LARGE: Final = 1e13  # squares of sums of products with codes are still floats


def best_scales(
    rows: NDArray[np.float32], lowest: int, highest: int, trials: Sequence[float]
) -> NDArray[np.float32]:
    """Return float32 [n]: a scale for each row of [n, k] whose codes are in [lowest, highest]."""
    peaks = peak_magnitudes(rows)
    rows, units = _in_units(rows, peaks)
    peaks = peaks / units
    best = np.zeros(len(rows), np.float32)
    scales = peaks / np.float32(highest)
    codes = np.empty_like(rows)
    for trial in trials:
        with np.errstate(divide="ignore", invalid="ignore"):
            np.multiply(rows, (np.float32(trial) / peaks)[:, None], out=codes)
        round_to(codes, lowest, highest)
        products = np.einsum("nk,nk->n", rows, codes)
        squares = np.einsum("nk,nk->n", codes, codes)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = products * products / squares
            better = gain > best  # never where it is NaN, in a row of zeros
            np.copyto(best, gain, where=better)
            np.copyto(scales, products / squares, where=better)
    return not_zero(scales * units)


def best_ranges(
    rows: NDArray[np.float32], highest: int, *, searched: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a scale and a zero for each row of [n, k], float32 and uint8 [n], whose codes are in
    [0, highest] and in which 0 is exact; the range is that of the row or, `searched`, the one of
    some smaller ones that loses least."""
    low, high = np.minimum(rows.min(-1), 0), np.maximum(rows.max(-1), 0)
    rows, units = _in_units(rows, np.maximum(high, -low))
    low, high = low / units, high / units
    best = np.full(len(rows), np.inf, np.float32)
    scales, zeros = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
    for trial in RANGE_TRIALS if searched else RANGE_TRIALS[:1]:
        steps = not_zero((high - low) * np.float32(trial / highest))
        points = np.clip(np.rint(-low * np.float32(trial) / steps), 0, highest)
        codes = rows / steps[:, None] + points[:, None]
        round_to(codes, 0, highest)
        lost = ((codes - points[:, None]) * steps[:, None] - rows).astype(np.float32)
        error = np.einsum("nk,nk->n", lost, lost)
        better = error < best
        np.copyto(best, error, where=better)
        np.copyto(scales, steps, where=better)
        np.copyto(zeros, points, where=better)
    return not_zero(scales * units), zeros.astype(np.uint8)


def _in_units(
    rows: NDArray[np.float32], peaks: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows [n, k] divided by powers of two near their largest magnitudes [n], and those, so
    that squares neither overflow nor vanish; nothing is rounded, and seldom anything done."""
    if np.all((peaks < _LARGE) & ((peaks > 1 / _LARGE) | (peaks == 0))):
        return rows, np.ones_like(peaks)
    _, exponents = np.frexp(peaks)
    units = np.ldexp(np.float32(1), np.clip(exponents, -126, 126))
    return rows * (np.float32(1) / units)[:, None], units


def peak_magnitudes(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest magnitude of each row of [n, k]."""
    peaks: NDArray[np.float32] = np.maximum(rows.max(-1), -rows.min(-1))
    return peaks


def round_to(ratios: NDArray[np.float32], lowest: int, highest: int) -> None:
    """Round to nearest, in place, to what codes can be."""
    np.rint(ratios, out=ratios)
    np.clip(ratios, np.float32(lowest), np.float32(highest), out=ratios)


def not_zero(scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """A row of zeros needs a scale as well."""
    kept: NDArray[np.float32] = np.maximum(scales, np.finfo(np.float32).tiny)
    return kept

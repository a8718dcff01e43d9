"""Float matrices to the layouts that ONNX Runtime multiplies fastest, by rounding to nearest."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.nibbles import pack_nibbles
from modelc.ir.packing.weight import PackedWeight

_LAST: Final = 15  # the largest code of four bits
_TINY: Final = np.finfo(np.float32).tiny


def to_eight_bits(values: NDArray[np.float32], block_size: int) -> PackedWeight:
    """float32 [N, K] to 8 bits symmetric: the largest magnitude of a block gets code 128 +- 127."""
    blocks = _blocks(values, block_size)
    scales = np.maximum(np.abs(blocks).max(-1) / np.float32(127), _TINY)
    codes = np.rint(blocks / scales[..., None]) + np.float32(128)
    return PackedWeight(8, block_size, codes.astype(np.uint8), scales)


def to_four_bits(values: NDArray[np.float32], block_size: int) -> PackedWeight:
    """float32 [N, K] to 4 bits with zero points, so that a block needn't be centred.

    The ideal zero point is seldom whole: both neighbours are tried, each with the scale that
    fits the codes best (least squares), and the better one is kept.
    """
    blocks = _blocks(values, block_size)
    low = np.minimum(blocks.min(-1, keepdims=True), 0)
    high = np.maximum(blocks.max(-1, keepdims=True), 0)
    ideal = np.minimum(-low * np.float32(_LAST) / np.maximum(high - low, _TINY), _LAST)
    best = _fit(blocks, low, high, np.floor(ideal))
    other = _fit(blocks, low, high, np.ceil(ideal))
    better = other[0] < best[0]
    codes, scales, points = (
        np.where(better, one, two) for one, two in zip(other[1:], best[1:], strict=True)
    )
    rows, count, _ = blocks.shape
    whole = np.zeros((rows, count + count % 2), np.uint8)
    whole[:, :count] = points[..., 0]
    return PackedWeight(
        bits=4,
        block_size=block_size,
        codes=pack_nibbles(codes.astype(np.uint8)),
        scales=np.ascontiguousarray(scales[..., 0]),
        zero_points=pack_nibbles(whole),
    )


def _fit(
    blocks: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    points: NDArray[np.float32],
) -> tuple[NDArray[np.float32], ...]:
    """Return squared error, codes, scales and zero points, each [N, K / block_size, ...]."""
    below = -low / np.maximum(points, np.float32(0.5))
    above = high / np.maximum(_LAST - points, np.float32(0.5))
    steps = blocks / np.maximum(np.maximum(below, above), _TINY)
    codes = np.clip(np.rint(steps + points), 0, _LAST)
    offsets = codes - points
    norm = np.maximum((offsets * offsets).sum(-1, keepdims=True), np.float32(1))
    scales = (blocks * offsets).sum(-1, keepdims=True) / norm
    errors = ((blocks - scales * offsets) ** 2).sum(-1, keepdims=True)
    return errors, codes, scales, points


def _blocks(values: NDArray[np.float32], block_size: int) -> NDArray[np.float32]:
    rows, columns = values.shape
    return values.reshape(rows, columns // block_size, block_size)

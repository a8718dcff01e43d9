"""The 6-bit scales and minima of Q4_K and Q5_K: eight pairs in 12 bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import half_field


def scales_and_minima(
    records: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scales and minima, both float32 [N, 8 * superblocks], of records [N, superblocks, bytes].

    A record starts with d, dmin (float16) and 12 bytes: the low six bits of bytes 0-3 are the
    scales 0-3 and of bytes 4-7 the minima 0-3; bytes 8-11 hold the low nibbles of the scales
    (low) and minima (high) 4-7, whose upper two bits are those of bytes 0-7.
    Source: ggml-quants.c, get_scale_min_k4. Both products are exact in float32.
    """
    rows = records.shape[0]
    packed = np.ascontiguousarray(records[..., 4:16])
    first, second, third = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scale = np.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=-1)
    minimum = np.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=-1)
    scales = half_field(records, 0)[..., None] * scale.astype(np.float32)
    minima = half_field(records, 2)[..., None] * minimum.astype(np.float32)
    return scales.reshape(rows, -1), minima.reshape(rows, -1)

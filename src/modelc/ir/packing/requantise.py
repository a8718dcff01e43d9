"""Float matrices to 8 bits, by rounding to nearest."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.weight import PackedWeight

_TINY: Final = np.finfo(np.float32).tiny


def to_eight_bits(values: NDArray[np.float32], block_size: int) -> PackedWeight:
    """float32 [N, K] to 8 bits symmetric: the largest magnitude of a block gets code 128 +- 127."""
    rows, columns = values.shape
    blocks = values.reshape(rows, columns // block_size, block_size)
    scales = np.maximum(np.abs(blocks).max(-1) / np.float32(127), _TINY)
    codes = np.rint(blocks / scales[..., None]) + np.float32(128)
    return PackedWeight(8, block_size, codes.astype(np.uint8), scales)

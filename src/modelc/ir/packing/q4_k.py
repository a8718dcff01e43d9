"""Q4_K: 256 codes of 4 bits in eight blocks of 32.

Q4_K (144 bytes): d, dmin float16, 12 bytes of 6-bit scales and minima, 128 bytes of codes (two
blocks to 32 bytes, the first in the low nibbles); weight = d scale q - dmin minimum
Source: ggml-common.h, block_q4_K.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import split_blocks
from modelc.ir.packing.k_scales import scales_and_minima
from modelc.ir.packing.nibbles import interleave_halves
from modelc.ir.packing.weight import PackedWeight


def pack_q4_k(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q4_K bytes [N, K / 256 * 144] to 4 bits in blocks of 32 with minima (at q = 8)."""
    records = split_blocks(blocks, 144)
    rows, superblocks, _ = records.shape
    scales, minima = scales_and_minima(records)
    pairs = records[..., 16:].reshape(rows, superblocks * 4, 32)
    return PackedWeight(
        bits=4,
        block_size=32,
        codes=interleave_halves(pairs).reshape(rows, superblocks * 8, 16),
        scales=scales,
        minima=8 * scales - minima,
    )

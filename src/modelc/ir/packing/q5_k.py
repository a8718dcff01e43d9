"""Q5_K: 256 codes of 5 bits in eight blocks of 32, in an 8-bit container.

Q5_K (176 bytes): d, dmin float16, 12 bytes of 6-bit scales and minima, 32 bytes of high bits (bit
j of byte i belongs to code i of block j), 128 bytes of low nibbles as in Q4_K;
weight = d scale q - dmin minimum. Source: ggml-common.h, block_q5_K.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import split_blocks
from modelc.ir.packing.k_scales import scales_and_minima
from modelc.ir.packing.nibbles import split_halves
from modelc.ir.packing.weight import PackedWeight

CENTRE = np.uint8(128 - 16)


def pack_q5_k(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q5_K bytes [N, K / 256 * 176] to 8 bits in blocks of 32 with minima (at q = 16)."""
    records = split_blocks(blocks, 176)
    rows, superblocks, _ = records.shape
    scales, minima = scales_and_minima(records)
    codes = split_halves(records[..., 48:].reshape(rows, superblocks, 4, 32))
    codes = codes.reshape(rows, superblocks, 8, 32)
    high = records[..., 16:48]
    for block in range(8):
        codes[..., block, :] |= ((high >> block) & 1) << 4
    codes += CENTRE
    return PackedWeight(
        bits=8,
        block_size=32,
        codes=codes.reshape(rows, superblocks * 8, 32),
        scales=scales,
        minima=16 * scales - minima,
    )

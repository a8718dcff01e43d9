"""Q4_0 and Q4_1: 32 codes of 4 bits.

Q4_0 (18 bytes): d float16, 16 bytes of codes; weight = d (q - 8)
Q4_1 (20 bytes): d, m float16, 16 bytes of codes; weight = d q + m
Source: ggml-common.h, block_q4_0 and block_q4_1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import half_field, split_blocks
from modelc.ir.packing.nibbles import interleave_halves
from modelc.ir.packing.weight import PackedWeight


def pack_q4_0(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q4_0 bytes [N, K / 32 * 18] to 4 bits in blocks of 32, default zero point: exact."""
    records = split_blocks(blocks, 18)
    return PackedWeight(
        bits=4,
        block_size=32,
        codes=interleave_halves(records[..., 2:]),
        scales=half_field(records, 0),
    )


def pack_q4_1(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q4_1 bytes [N, K / 32 * 20] to 4 bits in blocks of 32 with minima (d q + m at q = 8)."""
    records = split_blocks(blocks, 20)
    scales = half_field(records, 0)
    return PackedWeight(
        bits=4,
        block_size=32,
        codes=interleave_halves(records[..., 4:]),
        scales=scales,
        minima=half_field(records, 2) + 8 * scales,
    )

"""Q8_0: 32 codes of 8 bits.

Q8_0 (34 bytes): d float16, 32 signed bytes; weight = d q
Source: ggml-common.h, block_q8_0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import half_field, split_blocks
from modelc.ir.packing.weight import PackedWeight


def pack_q8_0(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q8_0 bytes [N, K / 32 * 34] to 8 bits in blocks of 32, default zero point: exact."""
    records = split_blocks(blocks, 34)
    return PackedWeight(
        bits=8,
        block_size=32,
        codes=records[..., 2:] ^ np.uint8(0x80),
        scales=half_field(records, 0),
    )

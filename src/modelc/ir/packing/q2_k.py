"""Q2_K: 256 codes of 2 bits in sixteen blocks of 16, in a 4-bit container.

Q2_K (84 bytes): 16 bytes of scales (low nibble) and minima (high nibble), 64 bytes of codes (bits
2 j of byte i of half h belong to code 128 h + 32 j + i), d, dmin float16;
weight = d scale q - dmin minimum. Source: ggml-common.h, block_q2_K.
ONNX Runtime's 2-bit kernel is a hundred times slower than its 4-bit kernel: hence the container.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import half_field, split_blocks
from modelc.ir.packing.nibbles import pack_nibbles
from modelc.ir.packing.weight import PackedWeight

CENTRE = np.uint8(8 - 2)


def pack_q2_k(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q2_K bytes [N, K / 256 * 84] to 4 bits in blocks of 16 with minima (at q = 2)."""
    records = split_blocks(blocks, 84)
    rows, superblocks, _ = records.shape
    packed = records[..., 16:80].reshape(rows, superblocks, 2, 32)
    codes = np.empty((rows, superblocks, 2, 4, 32), np.uint8)
    for run in range(4):
        codes[..., run, :] = (packed >> (2 * run)) & 3
    codes += CENTRE
    scales = half_field(records, 80)[..., None] * (records[..., :16] & 15).astype(np.float32)
    minima = half_field(records, 82)[..., None] * (records[..., :16] >> 4).astype(np.float32)
    return PackedWeight(
        bits=4,
        block_size=16,
        codes=pack_nibbles(codes).reshape(rows, superblocks * 16, 8),
        scales=scales.reshape(rows, -1),
        minima=(2 * scales - minima).reshape(rows, -1),
    )

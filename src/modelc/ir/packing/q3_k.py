"""Q3_K: 256 codes of 3 bits in sixteen blocks of 16, in a 4-bit container.

Q3_K (110 bytes): 32 bytes of high bits (bit j of byte i belongs to code 32 j + i), 64 bytes of low
bit pairs (bits 2 j of byte i of half h belong to code 128 h + 32 j + i), 12 bytes of 6-bit scales,
d float16; weight = d (scale - 32) (q - 4). Source: ggml-common.h, block_q3_K.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import half_field, split_blocks
from modelc.ir.packing.nibbles import pack_nibbles
from modelc.ir.packing.weight import PackedWeight

CENTRE = np.uint8(8 - 4)


def pack_q3_k(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q3_K bytes [N, K / 256 * 110] to 4 bits in blocks of 16, default zero point: exact."""
    records = split_blocks(blocks, 110)
    rows, superblocks, _ = records.shape
    low = records[..., 32:96].reshape(rows, superblocks, 2, 32)
    high = records[..., :32]
    codes = np.empty((rows, superblocks, 2, 4, 32), np.uint8)
    for half in range(2):
        for run in range(4):
            bit = (high >> (4 * half + run)) & 1
            codes[:, :, half, run] = ((low[:, :, half] >> (2 * run)) & 3) | (bit << 2)
    codes += CENTRE
    scales = half_field(records, 108)[..., None] * _block_scales(records[..., 96:108])
    return PackedWeight(
        bits=4,
        block_size=16,
        codes=pack_nibbles(codes).reshape(rows, superblocks * 16, 8),
        scales=scales.reshape(rows, -1),
    )


def _block_scales(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Sixteen scales -32..31, float32 [..., 16], of 12 bytes.

    Low nibbles of bytes 0-7 are those of scales 0-7, high nibbles of scales 8-15; bits 2 j of
    byte 8 + i are the upper two bits of scale 4 j + i.
    """
    low = np.concatenate([packed[..., :8] & 15, packed[..., :8] >> 4], axis=-1)
    pairs = [(packed[..., 8:12] >> (2 * j)) & 3 for j in range(4)]
    six_bits: NDArray[np.uint8] = low | (np.concatenate(pairs, axis=-1) << 4)
    return six_bits.astype(np.float32) - np.float32(32)

"""Q6_K: 256 codes of 6 bits in sixteen blocks of 16, in an 8-bit container.

Q6_K (210 bytes): 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d float16;
weight = d scale (q - 32). Each half of 128 codes has 64 bytes of nibbles (two runs of 32 bytes:
low nibbles are codes 0-63, high 64-127) and 32 bytes of pairs (bits 2 j of byte i belong to code
32 j + i). Source: ggml-common.h, block_q6_K.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import half_field, split_blocks
from modelc.ir.packing.nibbles import split_halves
from modelc.ir.packing.weight import PackedWeight

CENTRE = np.uint8(128 - 32)


def pack_q6_k(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q6_K bytes [N, K / 256 * 210] to 8 bits in blocks of 16, default zero point: exact."""
    records = split_blocks(blocks, 210)
    rows, superblocks, _ = records.shape
    codes = split_halves(records[..., :128].reshape(rows, superblocks, 2, 64))
    codes = codes.reshape(rows, superblocks, 2, 4, 32)
    high = records[..., 128:192].reshape(rows, superblocks, 2, 32)
    for run in range(4):
        codes[..., run, :] |= ((high >> (2 * run)) & 3) << 4
    codes += CENTRE
    block_scales = np.ascontiguousarray(records[..., 192:208]).view(np.int8).astype(np.float32)
    scales = half_field(records, 208)[..., None] * block_scales
    return PackedWeight(
        bits=8,
        block_size=16,
        codes=codes.reshape(rows, superblocks * 16, 16),
        scales=scales.reshape(rows, -1),
    )

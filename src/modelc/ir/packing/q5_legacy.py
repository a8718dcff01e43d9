"""Q5_0 and Q5_1: 32 codes of 5 bits, in an 8-bit container.

Q5_0 (22 bytes): d float16, 32 high bits, 16 bytes of low nibbles; weight = d (q - 16)
Q5_1 (24 bytes): d, m float16, 32 high bits, 16 bytes of low nibbles; weight = d q + m
Source: ggml-common.h, block_q5_0 and block_q5_1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.fields import half_field, split_blocks
from modelc.ir.packing.nibbles import split_halves
from modelc.ir.packing.weight import PackedWeight

CENTRE = np.uint8(128 - 16)  # the code 16 of five bits lands on the zero point of eight


def pack_q5_0(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q5_0 bytes [N, K / 32 * 22] to 8 bits in blocks of 32, default zero point: exact."""
    records = split_blocks(blocks, 22)
    codes = _five_bits(records[..., 2:6], records[..., 6:])
    return PackedWeight(bits=8, block_size=32, codes=codes, scales=half_field(records, 0))


def pack_q5_1(blocks: NDArray[np.uint8]) -> PackedWeight:
    """Q5_1 bytes [N, K / 32 * 24] to 8 bits in blocks of 32 with minima (d q + m at q = 16)."""
    records = split_blocks(blocks, 24)
    scales = half_field(records, 0)
    return PackedWeight(
        bits=8,
        block_size=32,
        codes=_five_bits(records[..., 4:8], records[..., 8:]),
        scales=scales,
        minima=half_field(records, 2) + 16 * scales,
    )


def _five_bits(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """High bits [..., 4] and split-half low nibbles [..., 16] to centred codes [..., 32]."""
    codes = split_halves(low)
    bits = np.unpackbits(high, axis=-1, bitorder="little")
    bits <<= 4
    codes |= bits
    codes += CENTRE
    return codes

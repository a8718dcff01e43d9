"""GGML's quantised blocks to the constant inputs of MatMulNBits, one packer for each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.q2_k import pack_q2_k
from modelc.ir.packing.q3_k import pack_q3_k
from modelc.ir.packing.q4_k import pack_q4_k
from modelc.ir.packing.q4_legacy import pack_q4_0, pack_q4_1
from modelc.ir.packing.q5_k import pack_q5_k
from modelc.ir.packing.q5_legacy import pack_q5_0, pack_q5_1
from modelc.ir.packing.q6_k import pack_q6_k
from modelc.ir.packing.q8_legacy import pack_q8_0
from modelc.ir.packing.weight import Layout, PackedWeight

Packer = Callable[[NDArray[np.uint8]], PackedWeight]

PACKERS: Final[Mapping[str, Packer]] = {
    "Q4_0": pack_q4_0,
    "Q4_1": pack_q4_1,
    "Q5_0": pack_q5_0,
    "Q5_1": pack_q5_1,
    "Q8_0": pack_q8_0,
    "Q2_K": pack_q2_k,
    "Q3_K": pack_q3_k,
    "Q4_K": pack_q4_k,
    "Q5_K": pack_q5_k,
    "Q6_K": pack_q6_k,
}

# What the packers make, known before a block is read.
LAYOUTS: Final[Mapping[str, Layout]] = {
    "Q4_0": Layout(bits=4, block_size=32),
    "Q4_1": Layout(bits=4, block_size=32, minima=True),
    "Q5_0": Layout(bits=8, block_size=32),
    "Q5_1": Layout(bits=8, block_size=32, minima=True),
    "Q8_0": Layout(bits=8, block_size=32),
    "Q2_K": Layout(bits=4, block_size=16, minima=True),
    "Q3_K": Layout(bits=4, block_size=16),
    "Q4_K": Layout(bits=4, block_size=32, minima=True),
    "Q5_K": Layout(bits=8, block_size=32, minima=True),
    "Q6_K": Layout(bits=8, block_size=16),
}

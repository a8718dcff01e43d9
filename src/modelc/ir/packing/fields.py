"""Access to the fields of ggml blocks: arrays of fixed-size byte records."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def split_blocks(blocks: NDArray[np.uint8], block_bytes: int) -> NDArray[np.uint8]:
    """Rows of bytes [N, row_bytes] as records [N, row_bytes / block_bytes, block_bytes]."""
    rows, row_bytes = blocks.shape
    if row_bytes % block_bytes:
        raise ValueError(f"a row of {row_bytes} bytes is not a whole number of {block_bytes}")
    return blocks.reshape(rows, row_bytes // block_bytes, block_bytes)


def half_field(records: NDArray[np.uint8], offset: int) -> NDArray[np.float32]:
    """The little-endian float16 at `offset` of each record [..., bytes], as float32 [...]."""
    raw = np.ascontiguousarray(records[..., offset : offset + 2])
    return raw.view("<f2")[..., 0].astype(np.float32)

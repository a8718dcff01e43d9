"""Codes as bitsandbytes stores them.

Source: bitsandbytes' `QuantState.as_dict`, `quantize_4bit` and `int8_vectorwise_quant`. Of 4 bits
(nf4, fp4), in blocks of the flattened matrix:
``codes``   uint8 [elements / 2], the first of two in the high half
``values``  float32 [16]: the number that each code is
``scales``  float32 [blocks]; or uint8, for numbers of ``nested_values`` float32 [256], each times
            the one of its block of blocks in ``nested_scales`` float32, plus an offset
``state``   JSON: `blocksize`, and where nested `nested_blocksize`, `nested_offset`
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelc.ir.layouts.layout import Arrays, Rows, numbers
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form


def as_table(arrays: Arrays, form: Form | None, shape: tuple[int, int], rows: Rows) -> CodedRows:
    """Codes of 4 bits as the numbers that they stand for, before scales."""
    height, columns = shape
    state = json.loads(arrays["state"].tobytes())
    size = state["blocksize"]
    packed = arrays["codes"].reshape(height, columns // 2)[rows]
    codes = np.stack([packed >> 4, packed & 0xF], axis=-1).reshape(len(packed), columns)
    block = size if columns % size == 0 else 1  # some blocks go on in the next row
    starts = np.arange(0, columns, block)
    blocks = (numbers(rows, height)[:, None].astype(np.int64) * columns + starts) // size
    return CodedRows(arrays["values"][codes], _scales(arrays, state, blocks), block=block)


def as_int8(arrays: Arrays, form: Form | None, shape: tuple[int, int], rows: Rows) -> CodedRows:
    """``codes`` int8 [outputs, inputs]; ``scales`` float32 [outputs]: of each row's largest."""
    scales: NDArray[np.float32] = arrays["scales"][rows, None]
    return CodedRows(arrays["codes"][rows], np.divide(scales, 127, dtype=np.float32))


def _scales(
    arrays: Arrays, state: dict[str, Any], blocks: NDArray[np.int64]
) -> NDArray[np.float32]:
    scales: NDArray[np.float32] = arrays["scales"][blocks]
    if "nested_scales" in arrays:
        scales = arrays["nested_values"][scales]
        scales = scales * arrays["nested_scales"][blocks // state["nested_blocksize"]]
        scales += np.float32(state["nested_offset"])
    return scales

"""Codes as compressed-tensors packs them: rows of words, zeros packed along the outputs.

Source: compressed-tensors' `pack_to_int32` ("pack-quantized"). With b bits, all from 0 up:
``codes``  int32 [outputs, ceil(inputs * b / 32)]
``scales`` [outputs, groups]
``zeros``  int32 [ceil(outputs * b / 32), groups]
``groups`` int32 [inputs]: the group that an input is of, where they are out of order
"""

from __future__ import annotations

import numpy as np

from modelc.ir.layouts.bits import along_words, of_outputs, signed
from modelc.ir.layouts.layout import Arrays, Rows
from modelc.ir.layouts.rows import taken_rows
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form, IntegerForm


def as_packed_rows(
    arrays: Arrays, form: Form | None, shape: tuple[int, int], rows: Rows
) -> CodedRows:
    assert isinstance(form, IntegerForm)
    codes = along_words(arrays["codes"][rows], form.bits, shape[1])
    scales = taken_rows(arrays["scales"], rows, shape[0], form.block_rows).astype(np.float32)
    zeros = None
    if not form.symmetric:
        zeros = of_outputs(arrays["zeros"].T, form.bits, rows, shape[0]).T
    if "groups" in arrays:
        order = arrays["groups"]
        scales, zeros = scales[:, order], None if zeros is None else zeros[:, order]
    return CodedRows(
        signed(codes, form.bits) if zeros is None else codes,
        scales,
        zeros=None if zeros is None else np.ascontiguousarray(zeros),
        block=form.block,
    )

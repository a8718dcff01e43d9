"""Codes as AutoAWQ's "gemm" version stores them: eight outputs to a word, in an order of its own.

Source: AutoAWQ's `WQLinear_GEMM`. Of 4 bits:
``codes``  int32 [inputs, outputs / 8]; ``zeros`` int32 [groups, outputs / 8]
``scales`` [groups, outputs]
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.layouts.bits import of_outputs, signed
from modelc.ir.layouts.layout import Arrays, Rows
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form, IntegerForm

_PLACES: Final = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # of eight outputs' codes in their word
_BITS: Final = 4


def as_awq(arrays: Arrays, form: Form | None, shape: tuple[int, int], rows: Rows) -> CodedRows:
    assert isinstance(form, IntegerForm) and form.bits == _BITS
    codes = in_order(arrays["codes"], rows, shape[0]).T
    zeros = None if form.symmetric else in_order(arrays["zeros"], rows, shape[0]).T
    return CodedRows(
        np.ascontiguousarray(codes if zeros is not None else signed(codes, _BITS)),
        np.ascontiguousarray(arrays["scales"][:, rows].T, np.float32),
        zeros=None if zeros is None else np.ascontiguousarray(zeros),
        block=form.block,
    )


def in_order(words: NDArray[np.int32], rows: Rows, height: int) -> NDArray[np.uint8]:
    """Return the codes of some outputs, uint8 [len(words), outputs]."""
    if isinstance(rows, slice):
        first, last, _ = rows.indices(height)
        start, stop = first // 8 * 8, -(-last // 8) * 8
        codes = of_outputs(words, _BITS, slice(start, stop), height)
        ordered = codes.reshape(len(words), -1, 8)[..., _PLACES].reshape(len(words), -1)
        return ordered[:, first - start : last - start]
    return of_outputs(words, _BITS, rows // 8 * 8 + _PLACES[rows % 8], height)

"""Codes as GPTQ's implementations store them: inputs packed in words, outputs side by side.

Source: AutoGPTQ's and GPTQModel's `pack`. With b bits:
``codes``  int32 [inputs * b / 32, outputs], a word's first code in its lowest bits; codes of 3
           bits run on from word to word
``scales`` [groups, outputs]
``zeros``  int32 [groups, outputs * b / 32]; in the first version each less by one
``groups`` int32 [inputs]: the group that an input is of, where they are out of order
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.layouts.bits import along_words, of_outputs, signed
from modelc.ir.layouts.layout import Arrays, Layout, Rows
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form, IntegerForm


def _as_gptq(
    arrays: Arrays, form: Form | None, shape: tuple[int, int], rows: Rows, less_one: bool
) -> CodedRows:
    assert isinstance(form, IntegerForm)
    codes = along_words(arrays["codes"][:, rows].T, form.bits, shape[1])
    scales: NDArray[Any] = arrays["scales"][:, rows]
    zeros = None
    if not form.symmetric:
        zeros = gptq_zeros(arrays["zeros"], form.bits, rows, shape[0], less_one)
    if "groups" in arrays:
        order = arrays["groups"]
        scales, zeros = scales[order], None if zeros is None else zeros[order]
    return CodedRows(
        signed(codes, form.bits) if zeros is None else codes,
        np.ascontiguousarray(scales.T, np.float32),
        zeros=None if zeros is None else np.ascontiguousarray(zeros.T),
        block=form.block,
    )


as_gptq: Final[Layout] = partial(_as_gptq, less_one=True)
as_gptq_v2: Final[Layout] = partial(_as_gptq, less_one=False)


def gptq_zeros(
    words: NDArray[np.int32], bits: int, rows: Rows, height: int, less_one: bool
) -> NDArray[np.uint8]:
    """Return the zeros of some outputs, uint8 [groups, outputs].

    What was taken from each is added to words, because it was taken from words, borrowing from
    the neighbour where a zero was 0; those of 3 bits were each by itself.
    """
    if less_one and bits != 3:
        ones = sum(1 << shift for shift in range(0, 32, bits))
        words = (words.view(np.uint32) + np.uint32(ones)).view(np.int32)
    zeros = of_outputs(words, bits, rows, height)
    return zeros + np.uint8(1) & np.uint8(7) if less_one and bits == 3 else zeros

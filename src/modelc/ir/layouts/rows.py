"""Codes in rows: one to a byte or more, as algorithms here write them and as fp8 and int8 lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelc.ir.layouts.bits import signed
from modelc.ir.layouts.layout import Arrays, Rows, numbers
from modelc.ir.packing.bits import expand_bits
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import FloatForm, Form


def as_rows(arrays: Arrays, form: Form | None, shape: tuple[int, int], rows: Rows) -> CodedRows:
    """Parts as `CodedRows` has them, but for what several rows share, which may be there once.

    Zeros may be signed, as int8 codes are that have any.
    """
    assert form is not None
    taken = {
        name: taken_rows(array, rows, shape[0], form.block_rows) for name, array in arrays.items()
    }
    taken["scales"] = taken["scales"].astype(np.float32, copy=False)
    if taken["codes"].dtype == np.int8 and "zeros" in taken:
        for name in ("codes", "zeros"):
            taken[name] = taken[name].view(np.uint8) ^ np.uint8(128)
    return CodedRows(**taken, block=form.block)


def as_bits(arrays: Arrays, form: Form | None, shape: tuple[int, int], rows: Rows) -> CodedRows:
    """The same, but codes of fewer than eight bits without gaps (`ir.packing.bits`)."""
    assert form is not None
    packed = as_rows(arrays, form, shape, rows)
    codes: NDArray[Any] = expand_bits(packed.codes, form.bits, shape[1])
    if isinstance(form, FloatForm):
        codes = codes.view(form.array_type)
    elif form.symmetric:
        codes = signed(codes ^ np.uint8(1 << (form.bits - 1)), form.bits)
    return replace(packed, codes=codes)


def taken_rows(array: NDArray[Any], rows: Rows, height: int, share: int) -> NDArray[Any]:
    """Return what rows have of an array with a row for each of them, or for each `share` (0: all)
    of them."""
    if len(array) == height:
        return array[rows]
    found: NDArray[Any] = array[numbers(rows, height) // (share or height)]
    return found

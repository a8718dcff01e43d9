"""Codes of one form as codes of another that stand for exactly the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.coded_rows import CodedRows, over_columns
from modelc.ir.packing.kinds import FloatForm, Form, IntegerForm


def fits(stored: Form | None, wanted: Form, columns: int) -> bool:
    """Return whether `refit` can make codes of one form of all codes of another.

    Args:
        stored: None for codes that no form describes.
        columns: inputs of the matrix.
    """
    if stored is None or not _blocks_fit(stored, wanted, columns):
        return False
    if isinstance(stored, FloatForm) or isinstance(wanted, FloatForm):
        return (
            isinstance(stored, FloatForm)
            and isinstance(wanted, FloatForm)
            and stored.element == wanted.element
            and stored.power_scales >= wanted.power_scales
        )
    sign = wanted.symmetric and not stored.symmetric  # codes less their zeros need a bit more
    scales = stored.scale_bits == wanted.scale_bits and stored.block == wanted.block
    return stored.bits + sign <= wanted.bits and (
        not wanted.scale_bits or scales or not (stored.block or stored.scale_bits)
    )


def refit(coded: CodedRows, wanted: Form) -> CodedRows:
    """Return rows of a form that fits another one as codes of that; numbers stay as they are.

    Scales become those of each wanted block; a scale of 0 becomes 1, and its codes 0, because
    targets divide by scales.
    """
    rows, columns = coded.codes.shape
    firsts = np.arange(0, columns, wanted.block or columns)
    places = firsts // (coded.block or columns)  # of wanted blocks among those that there are
    if isinstance(wanted, FloatForm):
        return CodedRows(coded.codes, coded.block_scales[:, places], block=wanted.block)
    if not coded.scales.all():
        coded = _without_zero_scales(coded)
    multiples = coded.multiples
    if wanted.scale_bits:
        scales = coded.scales
        if multiples is None:
            multiples = np.ones((rows, len(places)), np.uint8)
    else:
        scales, multiples = coded.block_scales[:, places], None
    codes, zeros = _codes(coded, wanted, places)
    return CodedRows(codes, scales, multiples, zeros, wanted.block)


def _blocks_fit(stored: Form, wanted: Form, columns: int) -> bool:
    """Does each wanted block lie in one stored block?"""
    width, have = wanted.block or columns, stored.block or columns
    rows_fit = not stored.block_rows or (
        wanted.block_rows > 0 and stored.block_rows % wanted.block_rows == 0
    )
    return (have >= columns or have % width == 0) and rows_fit


def _codes(
    coded: CodedRows, wanted: IntegerForm, places: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    rows, columns = coded.codes.shape
    if wanted.symmetric:
        codes = coded.codes.astype(np.int16, copy=False)
        if coded.zeros is not None:
            codes = codes - over_columns(coded.zeros.astype(np.int16), columns, coded.block)
        return codes.astype(wanted.array_type, copy=False), None
    middle = 1 << (wanted.bits - 1)
    if coded.zeros is not None:
        return coded.codes, coded.zeros[:, places]
    codes = (coded.codes.astype(np.int16) + np.int16(middle)).astype(np.uint8)
    return codes, np.full((rows, len(places)), middle, np.uint8)


def _without_zero_scales(coded: CodedRows) -> CodedRows:
    """The same numbers: a code that is its zero, times any scale, is 0."""
    columns = coded.codes.shape[1]
    empty = coded.scales == 0
    width = columns if coded.multiples is not None else coded.block or columns
    where = np.repeat(empty, width, axis=1)[:, :columns]
    zeros: NDArray[Any] | int = 0
    if coded.zeros is not None:
        zeros = np.repeat(coded.zeros, coded.block or columns, axis=1)[:, :columns]
    codes = np.where(where, zeros, coded.codes).astype(coded.codes.dtype)
    scales = np.where(empty, np.float32(1), coded.scales)
    return CodedRows(codes, scales, coded.multiples, coded.zeros, coded.block)

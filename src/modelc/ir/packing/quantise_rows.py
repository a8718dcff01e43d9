"""Rows of float32 to codes of any form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.float_rows import quantise_floats
from modelc.ir.packing.integer_rows import quantise_integers
from modelc.ir.packing.kinds import FloatForm, Form


def quantise_rows(
    values: NDArray[np.float32],
    form: Form,
    scales: NDArray[np.float32] | None = None,
    *parts: NDArray[Any] | None,
) -> CodedRows:
    """Quantise [rows, columns] to nearest, with scales of least error unless they are given.

    Args:
        scales, parts: scales, multiples and zeros as `CodedRows` has them. Where rows share a
            scale and none is given, these rows are whole groups of such rows.
    """
    if isinstance(form, FloatForm):
        return quantise_floats(values, form, scales)
    return quantise_integers(values, form, scales, *parts)

"""What a layout is: a function from arrays as they lie to rows of codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form

Arrays = Mapping[str, NDArray[Any]]
"""A matrix's arrays by their part in it: `codes`, `scales` and others that a layout names."""

Rows = slice | NDArray[np.integer[Any]]
"""Which output channels; a slice has no step."""

Layout = Callable[[Arrays, Form | None, tuple[int, int], Rows], CodedRows]
"""Some rows of a matrix of a form and a shape [outputs, inputs]."""


def numbers(rows: Rows, height: int) -> NDArray[np.integer[Any]]:
    """Return rows of a matrix of this height as numbers."""
    return np.arange(*rows.indices(height)) if isinstance(rows, slice) else rows

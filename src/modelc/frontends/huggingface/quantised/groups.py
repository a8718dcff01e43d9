"""Groups of inputs that share a scale, some of them out of order ("act-order")."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelc.frontends.huggingface.quantised.module import Module
from modelc.ir.coded import StoredArray


def group_width(
    module: Module, order: StoredArray | None, groups: int, columns: int, known: int
) -> tuple[int, StoredArray | None]:
    """Return how many inputs share a scale (0: all of them), and the order if it is needed.

    Args:
        order: int32 [columns]: each input's group.
        known: the width that the settings say; 0: not said.

    Raises:
        BadInput: an input is of no group, or the groups are of no even width.
    """
    if order is not None:
        places = order.array()
        if (places == -1).all():  # never filled in
            order = None
        elif places.min() < 0 or places.max() >= groups:
            raise module.wrong(
                f"inputs are of groups {places.min()} to {places.max()}, but there are {groups}",
                "g_idx is damaged",
            )
    if order is not None:
        width = int(np.count_nonzero(places == 0)) or 1
        if not np.array_equal(places, np.arange(columns) // width):
            return 1, order
    else:
        width = known or -(-columns // groups)
    if -(-columns // width) != groups or (order is None and columns % width):
        raise module.wrong(
            f"{columns} inputs are not {groups} groups of {width}",
            "group_size must divide the inputs",
        )
    return (0 if groups == 1 else width), None


def as_column(array: StoredArray) -> StoredArray:
    """[rows] as [rows, 1], and a number as [1, 1]."""
    return replace(array, shape=(*(array.shape or (1,)), 1)) if len(array.shape) < 2 else array

"""Stored weights as float32 some rows at a time, so that a large one is never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from modelc.ir.stored import StoredMatrix, release, tensor_shape

SLAB_BYTES: Final = 1 << 21  # of float32; what is computed of it stays in the caches


def slabs(source: StoredMatrix, together: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a weight's stored rows as float32, each time with the first row's number, and let go
    of the file's pages; a vector comes whole.

    Args:
        together: rows that must not be parted, counted from the first; 0: all.
    """
    if len(source.shape) == 1:
        yield 0, source.decode()
        return
    stored = replace(source, transposed=False)
    step = rows_at_once(source.shape[-1], together) or stored_shape(source)[0]
    if source.unpermute_heads:  # rows change places over the whole of the matrix
        values = stored.decode()
        for first in range(0, len(values), step):
            yield first, values[first : first + step]
        return
    start, stop = source.rows or (0, source.row_count)
    for first in range(start, stop, step):
        yield first - start, replace(stored, rows=(first, min(first + step, stop))).decode()
        release(source)


def rows_at_once(columns: int, together: int = 1) -> int:
    """Return how many rows a slab has: whole groups of rows that belong together, 0 if all do."""
    return max(1, SLAB_BYTES // (4 * columns * max(together, 1))) * together


def stored_shape(source: StoredMatrix) -> tuple[int, ...]:
    """Return the shape of a weight's stored rows, before transposing."""
    return tensor_shape(replace(source, transposed=False))

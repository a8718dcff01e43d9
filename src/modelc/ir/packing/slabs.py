"""Stored weights as float32 some rows at a time, so that a large one is never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from modelc.ir.stored import StoredMatrix, release, tensor_shape

SLAB_BYTES: Final = 1 << 21  # of float32; what is computed of it stays in the caches


def slabs(source: StoredMatrix) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a weight's stored rows as float32, each time with the first row's number, and let go
    of the file's pages; a vector comes whole."""
    if len(source.shape) == 1:
        yield 0, source.decode()
        return
    stored = replace(source, transposed=False)
    step = max(1, SLAB_BYTES // (4 * source.shape[-1]))
    if source.unpermute_heads:  # rows change places over the whole of the matrix
        values = stored.decode()
        for first in range(0, len(values), step):
            yield first, values[first : first + step]
        return
    start, stop = source.rows or (0, source.row_count)
    for first in range(start, stop, step):
        yield first - start, replace(stored, rows=(first, min(first + step, stop))).decode()
        release(source)


def stored_shape(source: StoredMatrix) -> tuple[int, ...]:
    """Return the shape of a weight's stored rows, before transposing."""
    return tensor_shape(replace(source, transposed=False))

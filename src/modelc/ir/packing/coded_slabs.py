"""Stored matrices as codes of a form, some rows at a time: kept where they fit, or made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from modelc.ir.coded import CodedMatrix
from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.fit import fits, refit
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.packing.slabs import rows_at_once, slabs, stored_shape
from modelc.ir.stored import StoredMatrix, release


def keeps(source: StoredMatrix, wanted: Form) -> bool:
    """Return whether a matrix lies in codes that the form can have exactly as they are."""
    return isinstance(source, CodedMatrix) and fits(source.form, wanted, source.shape[1])


def coded_slabs(
    source: StoredMatrix, wanted: Form, given: GivenScales | None = None
) -> Iterator[tuple[int, CodedRows]]:
    """Yield a matrix's rows as codes of a form, each time with the first row's number.

    Args:
        given: its scales, if they are chosen already: its own ones don't count then.
    """
    if given is None and isinstance(source, CodedMatrix) and keeps(source, wanted):
        stored = replace(source, transposed=False)
        height, columns = stored_shape(source)
        step = rows_at_once(columns)
        for first in range(0, height, step):
            rows = stored.coded(slice(first, min(first + step, height)))
            yield first, refit(rows, wanted)
            release(source)
        return
    assert given is None or wanted.block_rows == 1
    for first, slab in slabs(source, wanted.block_rows):
        chosen = given.rows(first, len(slab)) if given else ()
        yield first, quantise_rows(slab, wanted, *chosen)


def relative_error(source: StoredMatrix, wanted: Form, given: GivenScales | None = None) -> float:
    """Return the norm of what the codes of a form change over the norm of the matrix; 0 where its
    own codes are kept."""
    if given is None and keeps(source, wanted):
        return 0.0
    changed = norm = 0.0
    plain = replace(source, transposed=False)
    for first, coded in coded_slabs(source, wanted, given):
        values = plain.decode_rows(np.arange(first, first + len(coded.codes)))
        changed += float(np.square(dequantise_rows(coded) - values).sum(dtype=np.float64))
        norm += float(np.square(values).sum(dtype=np.float64))
    return float(np.sqrt(changed / norm)) if norm else 0.0

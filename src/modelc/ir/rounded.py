"""Stored weights as the numbers that their codes stand for: float32 to whoever asks, rounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

import numpy as np

from modelc.ir.encodings import Encoding
from modelc.ir.packing.block_packing import BlockPacking
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.coded_slabs import coded_slabs, keeps
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.packing.slabs import stored_shape
from modelc.ir.packing.weight import unpack
from modelc.ir.packing.whole import encode
from modelc.ir.stored import MadeMatrix, StoredMatrix
from modelc.ir.weights import StoredWeight

Rounding = Form | BlockPacking | Encoding
"""Codes of a form, GGML's blocks, or one encoding for all of a weight."""


@dataclass(frozen=True)
class RoundedMatrix(MadeMatrix):
    """A stored weight quantised and dequantised when it is decoded; it is sliced and transposed as
    any other.

    Attributes:
        source: what is quantised, whole, however little of it this is; codes that fit the form are
            kept.
        rounding: how; of a matrix the stored rows are output channels.
        given: scales of the matrix; None to search for them.
    """

    source: StoredMatrix = field(kw_only=True)
    rounding: Rounding = field(kw_only=True)
    given: GivenScales | None = field(default=None, kw_only=True)

    @property
    def row_bytes(self) -> int:
        return self.source.row_bytes

    def decode_rows(self, rows: np.ndarray) -> np.ndarray:
        rounding = self.rounding
        if isinstance(rounding, Encoding):
            return _as_codes(self.source.decode_rows(rows), rounding)
        if isinstance(rounding, BlockPacking):
            return unpack(rounding.pack(self.source.blocks()[rows]))
        if keeps(self.source, rounding):
            return self.source.decode_rows(rows)
        if rounding.block_rows == 1 and self.given is None:
            return dequantise_rows(quantise_rows(self.source.decode_rows(rows), rounding))
        found: np.ndarray = replace(self, transposed=False).decode()[rows]
        return found

    def decode(self) -> np.ndarray:
        rounding = self.rounding
        if isinstance(rounding, Encoding):
            return _as_codes(self._plain().decode(), rounding)
        if isinstance(rounding, BlockPacking) or rounding.block_rows == 1:
            rows = _rounded_rows(self._plain(), rounding, self.given)
        else:  # rows that share scales are rounded together, and then cut
            start, own = (matrix.rows[0] if matrix.rows else 0 for matrix in (self.source, self))
            whole = _rounded_rows(self.source, rounding, self.given)
            rows = whole[own - start :][: stored_shape(self)[0]]
        return rows.T if self.transposed else rows

    def _plain(self) -> StoredMatrix:
        """Return the rows of `source` that this is, as they are."""
        return replace(
            self.source,
            offset=self.offset,
            shape=self.shape,
            rows=self.rows,
            unpermute_heads=self.unpermute_heads,
            transposed=self.transposed,
        )

    def __str__(self) -> str:
        how = self.rounding.how if isinstance(self.rounding, BlockPacking) else self.rounding
        return f"as {how}" + (f" by scales {self.given.digest}" if self.given else "")


def rounded(
    weight: StoredWeight, rounding: Rounding, given: GivenScales | None = None
) -> StoredWeight:
    """Return a weight as what its codes stand for.

    Raises:
        Damaged: the given scales are of another matrix.
    """
    source = weight.source
    own = {one.name: getattr(source, one.name) for one in fields(StoredMatrix)}
    scales = given.of(source) if given else None
    matrix = RoundedMatrix(**own, source=source, rounding=rounding, given=scales)
    return StoredWeight(matrix, weight.name)


def _as_codes(values: np.ndarray, encoding: Encoding) -> np.ndarray:
    return encoding.dequantise(encode(values, encoding))


def _rounded_rows(
    source: StoredMatrix, rounding: Form | BlockPacking, given: GivenScales | None
) -> np.ndarray:
    """Return stored rows quantised and dequantised, float32 [rows, columns]."""
    rows = np.empty(stored_shape(source), np.float32)
    done = 0
    for slab in _slabs(source, rounding, given.of(source) if given else None):
        rows[done : done + len(slab)] = slab
        done += len(slab)
    return rows


def _slabs(
    source: StoredMatrix, rounding: Form | BlockPacking, given: GivenScales | None
) -> Iterator[np.ndarray]:
    if isinstance(rounding, BlockPacking):
        yield from (unpack(packed) for packed, _ in rounding.slabs(source))
    else:
        yield from (dequantise_rows(coded) for _, coded in coded_slabs(source, rounding, given))

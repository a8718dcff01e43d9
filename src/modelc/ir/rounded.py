"""Stored weights as the numbers that their codes stand for: float32 to whoever asks, rounded."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np

from modelc.ir.encodings import Encoding
from modelc.ir.packing.coded_rows import dequantise_rows
from modelc.ir.packing.given_scales import GivenScales
from modelc.ir.packing.kinds import Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.packing.slabs import slabs, stored_shape
from modelc.ir.packing.whole import encode
from modelc.ir.stored import StoredMatrix
from modelc.ir.weights import StoredWeight


@dataclass(frozen=True)
class RoundedMatrix(StoredMatrix):
    """A stored weight quantised and dequantised when it is decoded; it is sliced and transposed as
    any other.

    Attributes:
        source: what is quantised, whole, however little of it this is.
        form: of the codes of a matrix, whose stored rows are output channels; or one encoding for
            all of the weight.
        given: scales of the matrix; None to search for them.
    """

    source: StoredMatrix = field(kw_only=True)
    form: Form | Encoding = field(kw_only=True)
    given: GivenScales | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Whatever the source is of, it was checked there."""

    @property
    def row_bytes(self) -> int:
        return self.source.row_bytes

    def blocks(self) -> np.ndarray:
        raise NotImplementedError("what is rounded has no blocks: take `decode`")

    def decode_rows(self, rows: np.ndarray) -> np.ndarray:
        if isinstance(self.form, Encoding):
            return _as_codes(self.source.decode_rows(rows), self.form)
        if self.form.block_rows == 1 and self.given is None:
            values = self.source.decode_rows(rows)
            return dequantise_rows(quantise_rows(values, self.form))
        found: np.ndarray = replace(self, transposed=False).decode()[rows]
        return found

    def decode(self) -> np.ndarray:
        if isinstance(self.form, Encoding):
            return _as_codes(self._plain().decode(), self.form)
        values = self._rows(self.form)
        return values.T if self.transposed else values

    def _rows(self, form: Form) -> np.ndarray:
        """Return the rounded rows, float32 [rows, columns]."""
        if form.block_rows == 1:
            return _rounded(self._plain(), form, self.given)
        # Rows that share scales are rounded together, and then cut.
        count = stored_shape(self)[0]
        start, own = (matrix.rows[0] if matrix.rows else 0 for matrix in (self.source, self))
        return _rounded(self.source, form, self.given)[own - start : own - start + count]

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
        scales = f" by scales {self.given.digest}" if self.given else ""
        return f"as {self.form}{scales}"


def rounded(
    weight: StoredWeight, form: Form | Encoding, given: GivenScales | None = None
) -> StoredWeight:
    """Return a weight as what its codes of a form, or of one encoding, stand for.

    Raises:
        Damaged: the given scales are of another matrix.
    """
    source = weight.source
    own = {one.name: getattr(source, one.name) for one in fields(StoredMatrix)}
    scales = given.of(source) if given else None
    return StoredWeight(RoundedMatrix(**own, source=source, form=form, given=scales), weight.name)


def _as_codes(values: np.ndarray, encoding: Encoding) -> np.ndarray:
    return encoding.dequantise(encode(values, encoding))


def _rounded(source: StoredMatrix, form: Form, given: GivenScales | None) -> np.ndarray:
    """Return stored rows quantised and dequantised, float32 [rows, columns]."""
    rows = np.empty(stored_shape(source), np.float32)
    if form.block_rows != 1:
        whole = replace(source, transposed=False).decode()
        rows[:] = dequantise_rows(quantise_rows(whole, form))
        return rows
    scales = given.of(source) if given else None
    for first, slab in slabs(source):
        chosen = scales.rows(first, len(slab)) if scales else ()
        coded = quantise_rows(slab, form, *chosen)
        rows[first : first + len(slab)] = dequantise_rows(coded)
    return rows

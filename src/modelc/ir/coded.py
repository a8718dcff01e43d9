"""Matrices that lie in a file as codes and scales: those that algorithms made, and those of
checkpoints that came quantised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ml_dtypes  # noqa: F401  # names its types to NumPy
import numpy as np
from numpy.typing import NDArray

from modelc.errors import BadInput, Where
from modelc.ir.layouts.awq import as_awq
from modelc.ir.layouts.bitsandbytes import as_int8, as_table
from modelc.ir.layouts.gptq import as_gptq, as_gptq_v2
from modelc.ir.layouts.layout import Layout, Rows
from modelc.ir.layouts.packed_rows import as_packed_rows
from modelc.ir.layouts.rows import as_bits, as_rows
from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.kinds import Form, IntegerForm
from modelc.ir.stored import MadeMatrix, mapped

STORED_TYPES: Final = frozenset(
    {
        "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "bfloat16",
        "float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float6_e2m3fn", "float4_e2m1fn",
        "float8_e8m0fnu",
    }
)  # fmt: skip
"""What `StoredArray.dtype` may be."""

LAYOUTS: Final[Mapping[str, Layout]] = {
    "rows": as_rows,
    "bits": as_bits,
    "gptq": as_gptq,
    "gptq_v2": as_gptq_v2,
    "awq": as_awq,
    "packed_rows": as_packed_rows,
    "bnb_table": as_table,
    "bnb_int8": as_int8,
}
"""How codes lie: name -> what makes `CodedRows` of them."""

_BYTES: Final = IntegerForm(8)


@dataclass(frozen=True)
class StoredArray:
    """An array as it lies in a file, little-endian, in rows.

    Attributes:
        dtype: NumPy's name ("int32"), or one of ml_dtypes ("float8_e4m3fn", "bfloat16").
    """

    path: Path
    offset: int
    dtype: str
    shape: tuple[int, ...]

    def array(self) -> NDArray[Any]:
        """Return a view of the mapped file."""
        dtype = np.dtype(self.dtype)
        count = int(np.prod(self.shape, dtype=np.int64))
        view: NDArray[Any] = np.frombuffer(mapped(self.path), dtype, count, self.offset)
        return view.reshape(self.shape)

    @property
    def size(self) -> int:
        """In bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class CodedMatrix(MadeMatrix):
    """A matrix of output channels by inputs, whatever way its codes lie in.

    Attributes:
        path, offset: of the codes.
        format: a key of `LAYOUTS`.
        shape: [outputs, inputs].
        form: of the codes. None: they are numbers of a table, which is no form that a target
            has. Where inputs are out of their groups' order, each is a block of its own.
        parts: name -> array, as the layout wants them; `codes` is one.
    """

    form: Form | None = _BYTES
    parts: tuple[tuple[str, StoredArray], ...] = ()

    def __post_init__(self) -> None:
        if self.format not in LAYOUTS or self.unpermute_heads or self.add:
            raise BadInput(
                f"codes that lie as {self.format!r} can't be read", where=Where(path=str(self.path))
            )

    @property
    def row_bytes(self) -> int:
        """On average."""
        return dict(self.parts)["codes"].size // self.shape[0]

    @property
    def what(self) -> str:
        """Its codes, for people."""
        return str(self.form) if self.form else "codes of a table"

    def coded(self, rows: Rows = slice(None)) -> CodedRows:
        """Return some of this weight's rows as they are; row 0 is the first of `self.rows`."""
        arrays = {name: part.array() for name, part in self.parts}
        height, columns = self.shape
        if self.rows:
            rows = _inside(self.rows, rows)
        return LAYOUTS[self.format](arrays, self.form, (height, columns), rows)

    def decode(self) -> np.ndarray:
        values = dequantise_rows(self.coded())
        return values.T if self.transposed else values

    def decode_rows(self, rows: np.ndarray) -> np.ndarray:
        return dequantise_rows(self.coded(rows))


def _inside(part: tuple[int, int], rows: Rows) -> Rows:
    """Return rows of a part of a matrix as rows of the matrix."""
    if isinstance(rows, slice):
        first, last, _ = rows.indices(part[1] - part[0])
        return slice(part[0] + first, part[0] + last)
    return rows + part[0]

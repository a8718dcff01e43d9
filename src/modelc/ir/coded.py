"""Matrices that lie in a file as codes and scales: those that algorithms made, and those of
checkpoints that came quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ml_dtypes  # noqa: F401  # names its types to NumPy
import numpy as np
from numpy.typing import NDArray

from modelc.errors import BadInput, Where
from modelc.ir.packing.coded_rows import CodedRows, dequantise_rows
from modelc.ir.packing.kinds import Form, IntegerForm
from modelc.ir.stored import StoredMatrix, mapped

STORED_TYPES: Final = frozenset(
    {
        "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "bfloat16",
        "float8_e4m3fn", "float8_e5m2", "float6_e3m2fn", "float6_e2m3fn", "float4_e2m1fn",
        "float8_e8m0fnu",
    }
)  # fmt: skip
"""What `StoredArray.dtype` may be."""

_BYTES: Final = IntegerForm(8)

Rows = slice | NDArray[np.integer[Any]]
"""Which output channels."""


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
class CodedMatrix(StoredMatrix):
    """A matrix of output channels by inputs, whatever way its codes lie in.

    Attributes:
        path, offset: of the codes.
        format: a key of `LAYOUTS`.
        shape: [outputs, inputs].
        form: of the codes.
        parts: name -> array, as the layout wants them; `codes` is one.
    """

    form: Form = _BYTES
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

    def blocks(self) -> np.ndarray:
        raise NotImplementedError("codes have no blocks: take `coded`")

    def coded(self, rows: Rows = slice(None)) -> CodedRows:
        """Return some of this weight's rows as they are; row 0 is the first of `self.rows`."""
        if self.rows:
            every = np.arange(*self.rows)
            rows = every[rows]
        return LAYOUTS[self.format](self, rows)

    def decode(self) -> np.ndarray:
        values = dequantise_rows(self.coded())
        return values.T if self.transposed else values

    def decode_rows(self, rows: np.ndarray) -> np.ndarray:
        return dequantise_rows(self.coded(rows))


def _as_rows(matrix: CodedMatrix, rows: Rows) -> CodedRows:
    """Parts as `CodedRows` has them; scales and zeros of a whole tensor may have one row."""
    arrays = {name: part.array() for name, part in matrix.parts}
    taken = {name: _taken(array, rows, matrix.shape[0]) for name, array in arrays.items()}
    return CodedRows(**taken, block=matrix.form.block)


def _as_nibbles(matrix: CodedMatrix, rows: Rows) -> CodedRows:
    """The same, but two codes of up to four bits to a byte, the first one in its low half."""
    packed = _as_rows(matrix, rows)
    low, high = packed.codes & 0xF, packed.codes >> 4
    codes = np.stack([low, high], axis=-1).reshape(len(low), -1)
    if packed.zeros is None:
        codes = ((codes ^ 8) - np.uint8(8)).view(np.int8)
    return CodedRows(codes, packed.scales, packed.multiples, packed.zeros, packed.block)


def _taken(array: NDArray[Any], rows: Rows, height: int) -> NDArray[Any]:
    if len(array) == 1 < height:
        array = np.broadcast_to(array, (height, *array.shape[1:]))
    return array[rows]


LAYOUTS: Final[Mapping[str, Callable[[CodedMatrix, Rows], CodedRows]]] = {
    "rows": _as_rows,
    "nibbles": _as_nibbles,
}

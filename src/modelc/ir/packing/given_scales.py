"""Scales of matrices that were chosen elsewhere, so that only codes are left to compute."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelc.errors import Damaged, Where
from modelc.files import DAMAGED_ZIP
from modelc.hashing import digest
from modelc.ir.arrays import save_arrays
from modelc.ir.packing.kinds import MATRIX_KINDS
from modelc.ir.stored import StoredMatrix, tensor_shape

_FIELDS: Final = ("kind", "first_row", "scales", "multiples")


@dataclass(frozen=True)
class GivenScales:
    """Scales of one matrix, whose rows are its output channels in the tensor's order.

    Attributes:
        kind: the kind of `MATRIX_KINDS` that they are scales of.
        first_row: the stored row that the first of them is of, where fused rows are sliced.
        scales: float32 [rows, blocks]; where there are multiples [rows, 1]
        multiples: uint8 [rows, blocks]: a block's scale is this many times its channel's.
        digest: of all of them: equal scales are equal matrices.
    """

    kind: str
    first_row: int
    scales: NDArray[np.float32] = field(compare=False, repr=False)
    multiples: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        whole = [self.scales.shape, self.scales.tobytes()]
        if self.multiples is not None:
            whole += [self.multiples.shape, self.multiples.tobytes()]
        object.__setattr__(self, "digest", digest(whole)[:16])

    def of(self, source: StoredMatrix) -> GivenScales:
        """Return the scales of a matrix that is some rows of this one.

        Raises:
            Damaged: these are scales of another matrix.
        """
        rows = tensor_shape(source)[source.transposed]
        blocks = source.shape[-1] // (MATRIX_KINDS[self.kind].block or source.shape[-1])
        first = (source.rows[0] if source.rows else 0) - self.first_row
        scales, multiples = parts = self.rows(max(first, 0), rows)
        widths = [blocks] if multiples is None else [1, blocks]
        shapes = [array.shape for array in parts if array is not None]
        if first < 0 or shapes != [(rows, width) for width in widths]:
            raise Damaged(
                f"the imported scales are not of {rows} rows of {source.shape[-1]}",
                where=Where(path=str(source.path)),
                hint="import the encodings again, for this model",
            )
        return GivenScales(self.kind, first + self.first_row, scales, multiples)

    def rows(self, first: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None]:
        """Return scales and multiples of some of its rows."""
        part = slice(first, first + count)
        return self.scales[part], None if self.multiples is None else self.multiples[part]


def save(given: Mapping[str, GivenScales], path: Path) -> None:
    """Write scales by module; the same ones give the same bytes."""
    arrays = {
        f"{module}/{name}": np.asarray(value)
        for module in sorted(given)
        for name in _FIELDS
        if (value := getattr(given[module], name)) is not None
    }
    save_arrays(path, arrays)


def load(path: Path) -> dict[str, GivenScales]:
    """Raises Damaged if the file is not what `save` writes."""
    found: dict[str, GivenScales] = {}
    try:
        _check_sizes(path)
        with np.load(path) as archive:
            for module in sorted({key.rpartition("/")[0] for key in archive.files}):
                fields = {name: archive[f"{module}/{name}"] for name in _FIELDS[:3]}
                kind = str(fields["kind"])
                bits, multiples = MATRIX_KINDS[kind].scale_bits, None
                if bits:
                    multiples = _checked_multiples(archive[f"{module}/multiples"], bits)
                scales = _checked_scales(fields["scales"])
                found[module] = GivenScales(kind, int(fields["first_row"]), scales, multiples)
    except (*DAMAGED_ZIP, KeyError, TypeError, MemoryError) as error:
        raise Damaged(f"not a file of scales: {error}", where=Where(path=str(path))) from error
    return found


def _checked_scales(found: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # to infinity, which is refused
        scales = found.astype(np.float32)
    if not np.all((scales > 0) & (scales < np.inf)):
        raise ValueError("scales that are not positive and finite")
    return scales


def _checked_multiples(found: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """As many as 2^bits times: one more than is searched for here, as AIMET has it."""
    if found.dtype != np.uint8 or not np.all((found > 0) & (found <= 1 << bits)):
        raise ValueError(f"multiples that are not whole numbers from 1 to {1 << bits}")
    return found


def _check_sizes(path: Path) -> None:
    """Nothing is packed, so that reading takes no more memory than the file has bytes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its arrays are compressed")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("its arrays are larger than the file")

"""NumPy's .npz: token ids, one matrix or an array for each sample."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.files import DAMAGED_ZIP
from modelc.ir.arrays import save_arrays
from modelc.quant.samples.row import Row, check_ids

NAMES: Final = ("input_ids", "token_ids")
MAX_BYTES: Final = 64 << 20  # of ids, which take tenfold as Python numbers


def fits(path: Path, start: bytes) -> bool:
    """Whether a file is a .npz, by its name or as the ZIP file that it is."""
    return path.suffix.lower() == ".npz" or start.startswith(b"PK\x03\x04")


def read(path: Path, vocabulary: int) -> list[Row]:
    """Return the rows of the array `input_ids` or `token_ids`, integers [length] or [n, length];
    where neither is there, of all arrays in the order of the file.

    Raises:
        BadInput: the file is damaged or too large, or an array holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MAX_BYTES:
            raise BadInput(
                f"{size:,} bytes are more samples than calibration can use",
                where=Where(path=str(path)),
            )
        with np.load(path, allow_pickle=False) as saved:
            names = [name for name in NAMES if name in saved.files][:1] or saved.files
            arrays = {name: saved[name] for name in names}
    except (*DAMAGED_ZIP, MemoryError) as error:  # or a header claims more than there is
        raise BadInput(f"not a .npz file: {error}", where=Where(path=str(path))) from error
    return [row for name, array in arrays.items() for row in _rows(name, array, vocabulary, path)]


def rows_as_npz(rows: Sequence[Row]) -> bytes:
    """Return a .npz of rows of token ids, all of one length.

    Raises:
        ValueError: they are not.
    """
    stream = io.BytesIO()
    save_arrays(stream, {NAMES[0]: np.array(rows, np.int32)})
    return stream.getvalue()


def _rows(name: str, array: np.ndarray, vocabulary: int, path: Path) -> list[Row]:
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2):
        raise BadInput(
            f"{name} is {array.dtype} {list(array.shape)}, not token ids",
            where=Where(path=str(path)),
            hint="integers [length] or [samples, length], named input_ids",
        )
    matrix = np.atleast_2d(array)
    return [
        check_ids(row.tolist(), vocabulary, f"row {index} of {name}", path)
        for index, row in enumerate(matrix)
    ]

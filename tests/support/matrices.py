"""Float matrices in files, as a source stores them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from modelc.ir.stored import StoredMatrix


def store(folder: Path, values: np.ndarray, **edits: Any) -> StoredMatrix:
    """Write a matrix to a file of its own: mapped files are known by path, size and time."""
    path = folder / f"{len(list(folder.iterdir()))}.bin"
    path.write_bytes(values.astype(np.float32).tobytes())
    return StoredMatrix(path, 0, "F32", values.shape, **edits)

"""Named arrays in one .npz file, never pickled; and sequences of such sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

Arrays = Mapping[str, np.ndarray]


def save_arrays(path: Path | IO[bytes], arrays: Arrays) -> None:
    """Write arrays by name, uncompressed."""
    np.savez(path, **arrays)  # type: ignore[arg-type]  # NumPy's types take one for a flag


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `save_arrays` wrote."""
    with np.load(path, allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}


def save_sequence(path: Path | IO[bytes], sequence: Sequence[Arrays]) -> None:
    """Write sets of arrays, each array as "index/name"."""
    save_arrays(
        path, {f"{i}/{name}": a for i, row in enumerate(sequence) for name, a in row.items()}
    )


def load_sequence(path: Path) -> list[dict[str, np.ndarray]]:
    """Read what `save_sequence` wrote; no set may be empty."""
    rows: dict[int, dict[str, np.ndarray]] = {}
    for key, array in load_arrays(path).items():
        index, name = key.split("/", 1)
        rows.setdefault(int(index), {})[name] = array
    return [rows[index] for index in sorted(rows)]

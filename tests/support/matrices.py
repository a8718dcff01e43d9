"""Matrices in files: floats, as a source stores them, and codes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelc.frontends.huggingface.safetensors import read_header
from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.coded_file import place_written, write_weights
from modelc.ir.packing.coded_rows import CodedRows
from modelc.ir.packing.kinds import Form
from modelc.ir.packing.quantise_rows import quantise_rows
from modelc.ir.stored import StoredMatrix

_TYPES = {"I8": "int8", "U8": "uint8", "I16": "int16", "F32": "float32", "F16": "float16"}


def store(folder: Path, values: np.ndarray, **edits: Any) -> StoredMatrix:
    """Write a matrix to a file of its own: mapped files are known by path, size and time."""
    path = folder / f"{len(list(folder.iterdir()))}.bin"
    path.write_bytes(values.astype(np.float32).tobytes())
    return StoredMatrix(path, 0, "F32", values.shape, **edits)


def place(path: Path, forms: Mapping[str, Form | None]) -> dict[str, StoredMatrix]:
    """Return weights of a file that `write_weights` wrote."""
    arrays = {
        found.name: StoredArray(path, found.offset, _TYPES[found.format], found.shape)
        for found in read_header(path)
    }
    return place_written(path, forms, arrays)


def place_coded(path: Path, coded: CodedRows, form: Form) -> CodedMatrix:
    """Write a matrix's codes to a file of its own."""
    write_weights(path, {"m": (coded, form)})
    found = place(path, {"m": form})["m"]
    assert isinstance(found, CodedMatrix)
    return found


def store_coded(path: Path, values: np.ndarray, form: Form) -> CodedMatrix:
    """Write a matrix as codes of a form."""
    return place_coded(path, quantise_rows(values, form), form)

"""Weights that algorithms made, in safetensors files: codes with their scales, or floats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.packing.coded_rows import PARTS, CodedRows
from modelc.ir.packing.kinds import Form, IntegerForm
from modelc.ir.stored import StoredMatrix

_FLOATS: Final = {"float32": "F32", "float16": "F16"}

Written = tuple[CodedRows, Form] | NDArray[np.floating[Any]]
"""A matrix's codes and their form, or float32 or float16."""


def write_weights(path: Path, weights: Mapping[str, Written]) -> None:
    """Write weights by name; a matrix is [outputs, inputs]. The same ones give the same bytes."""
    from safetensors.numpy import save_file

    arrays: dict[str, NDArray[Any]] = {}
    for name, weight in weights.items():
        if isinstance(weight, np.ndarray):
            arrays[name] = np.ascontiguousarray(weight)
        else:
            arrays |= {f"{name}.{part}": array for part, array in _stored(*weight).items()}
    save_file(arrays, path)


def place_written(
    path: Path, weights: Mapping[str, Form | None], tensors: Mapping[str, StoredArray]
) -> dict[str, StoredMatrix]:
    """Return weights of a file that `write_weights` wrote.

    Args:
        weights: name -> form; None for floats.
        tensors: the file's, by name.
    """
    return {name: _placed(path, name, form, tensors) for name, form in weights.items()}


def _stored(coded: CodedRows, form: Form) -> dict[str, NDArray[Any]]:
    arrays = {part: getattr(coded, part) for part in PARTS}
    if _in_nibbles(form):
        low, high = (coded.codes[:, half::2].view(np.uint8) & 0xF for half in (0, 1))
        arrays["codes"] = low | (high << 4)
    elif arrays["codes"].dtype.kind not in "iu":  # small floats: safetensors has no name for all
        arrays["codes"] = arrays["codes"].view(np.uint8)
    return {
        part: np.ascontiguousarray(array) for part, array in arrays.items() if array is not None
    }


def _placed(
    path: Path, name: str, form: Form | None, tensors: Mapping[str, StoredArray]
) -> StoredMatrix:
    if form is None:
        array = tensors[name]
        return StoredMatrix(path, array.offset, _FLOATS[array.dtype], array.shape)
    parts = {part: tensors[f"{name}.{part}"] for part in PARTS if f"{name}.{part}" in tensors}
    codes = parts["codes"]
    nibbles = _in_nibbles(form)
    if not isinstance(form, IntegerForm):
        parts["codes"] = StoredArray(path, codes.offset, form.array_type.name, codes.shape)
    shape = (codes.shape[0], codes.shape[1] * (2 if nibbles else 1))
    return CodedMatrix(
        path,
        codes.offset,
        "nibbles" if nibbles else "rows",
        shape,
        form=form,
        parts=tuple(parts.items()),
    )


def _in_nibbles(form: Form) -> bool:
    return isinstance(form, IntegerForm) and form.bits <= 4

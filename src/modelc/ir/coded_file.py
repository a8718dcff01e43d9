"""Weights that algorithms made, in safetensors files: codes with their scales, or floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelc.ir.coded import CodedMatrix, StoredArray
from modelc.ir.packing.bits import pack_bits
from modelc.ir.packing.coded_rows import PARTS, CodedRows
from modelc.ir.packing.kinds import FloatForm, Form
from modelc.ir.stored import StoredMatrix

_FLOATS: Final = {"float32": "F32", "float16": "F16"}

_PACKED: Final = "packed"

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
    """Return arrays by part; codes whose rows fill whole bytes are `packed` without gaps."""
    arrays = {part: array for part in PARTS if (array := getattr(coded, part)) is not None}
    if form.bits < 8 and coded.codes.shape[1] * form.bits % 8 == 0:
        bits = arrays.pop("codes").view(np.uint8) & np.uint8((1 << form.bits) - 1)
        arrays[_PACKED] = pack_bits(bits, form.bits)
    elif isinstance(form, FloatForm):  # safetensors has no name for all of them
        arrays["codes"] = coded.codes.view(np.uint8)
    return {part: np.ascontiguousarray(array) for part, array in arrays.items()}


def _placed(
    path: Path, name: str, form: Form | None, tensors: Mapping[str, StoredArray]
) -> StoredMatrix:
    if form is None:
        array = tensors[name]
        return StoredMatrix(path, array.offset, _FLOATS[array.dtype], array.shape)
    packed = tensors.get(f"{name}.{_PACKED}")
    codes = packed or tensors[f"{name}.codes"]
    rows, width = codes.shape
    if isinstance(form, FloatForm) and not packed:
        codes = replace(codes, dtype=form.array_type.name)
    others = ((part, tensors.get(f"{name}.{part}")) for part in PARTS if part != "codes")
    return CodedMatrix(
        path,
        codes.offset,
        "bits" if packed else "rows",
        (rows, width * 8 // form.bits if packed else width),
        form=form,
        parts=(("codes", codes), *((part, array) for part, array in others if array)),
    )

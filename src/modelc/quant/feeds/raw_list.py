"""The input list of Qualcomm's tools: each line names the raw files of one inference.

`--input_list` of qnn-net-run and the converters: files are separated by blanks, each optionally
with its input's name, `name:=file`, and without names in the graph's order; paths start at the
list's folder; lines that begin with # or % name outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.quant.feeds.inputs import Feed, InputSpec, fit_feed

MAX_LIST_BYTES: Final = 16 << 20
MAX_LINE_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class Line:
    """One inference: its number in the list, and a raw file for each input's name."""

    number: int
    files: tuple[tuple[str, Path], ...]


def lines_of(path: Path, specs: Sequence[InputSpec]) -> list[Line]:
    """Return the lines of a list, at least one.

    Raises:
        BadInput: the file is no input list of this model; says the line.
    """
    where = Where(path=str(path))
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise BadInput("an input list is not as large", where=where)
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(
            "neither an input list of raw files nor a .npz", where=where, hint=_HINT
        ) from error
    except OSError as error:
        raise BadInput(f"the input list can't be read: {error.strerror}", where=where) from error
    lines = [
        Line(number, _files(line.split(), specs, number, path))
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and line.strip()[0] not in "#%"
    ]
    if not lines:
        raise BadInput("the input list names no file", where=where, hint=_HINT)
    return lines


def read(path: Path, specs: Sequence[InputSpec]) -> Iterator[Feed]:
    """Yield the feed of every line; a raw file is of its input's type, or float32.

    Raises:
        BadInput: a file is missing, of another size, or holds what its input can't take; says the
            line.
    """
    by_name = {spec.name: spec for spec in specs}
    for line in lines_of(path, specs):
        arrays = {name: _array(file, by_name[name], line.number, path) for name, file in line.files}
        yield fit_feed(arrays, specs, f"line {line.number}", Where(path=str(path)))


def files(path: Path, specs: Sequence[InputSpec]) -> list[Path]:
    """Return the raw files that a list names.

    Raises:
        BadInput: it is no input list of this model.
    """
    return [file for line in lines_of(path, specs) for _, file in line.files]


def _files(
    fields: Sequence[str], specs: Sequence[InputSpec], number: int, path: Path
) -> tuple[tuple[str, Path], ...]:
    where = Where(path=str(path))
    if len(fields) != len(specs):
        raise BadInput(
            f"line {number} names {len(fields)} files, and the model has {len(specs)} inputs: "
            f"{', '.join(map(str, specs))}",
            where=where,
            hint=_HINT,
        )
    found: dict[str, Path] = {}
    for field, spec in zip(fields, specs, strict=True):
        name, sign, file = field.partition(":=")
        name, file = (name, file) if sign else (spec.name, field)
        if name in found or name not in {spec.name for spec in specs}:
            why = "is named twice" if name in found else "is no input of the model"
            raise BadInput(f"line {number}: {name!r} {why}", where=where, hint=_HINT)
        if "\0" in file or not file:
            raise BadInput(f"line {number}: no file for {name}", where=where, hint=_HINT)
        found[name] = path.parent / file
    return tuple(found.items())


def _array(file: Path, spec: InputSpec, number: int, path: Path) -> np.ndarray:
    where = Where(path=str(path))
    try:
        if not file.is_file():
            raise BadInput(f"line {number}: there is no file {file}", where=where, hint=_HINT)
        size = file.stat().st_size
        as_float = 4 * spec.size
        if size not in (spec.nbytes, as_float):
            other = f", or {as_float} as float32" if as_float != spec.nbytes else ""
            raise BadInput(
                f"line {number}: {file} has {size} bytes; {spec} takes {spec.nbytes}{other}",
                where=where,
                hint="a raw file holds one input's numbers and nothing else",
            )
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"line {number}: {file} can't be read: {error.strerror}", where=where
        ) from error
    # Where both have the same size the input's own type counts, unless it then is nonsense.
    dtype = spec.dtype if size == spec.nbytes else np.dtype("<f4")
    array = np.frombuffer(data, dtype)
    if size == spec.nbytes == as_float and spec.dtype.kind in "iu" and _looks_float(data):
        array = np.frombuffer(data, "<f4")
    return array.reshape(spec.shape)


def _looks_float(data: bytes) -> bool:
    """Whether bytes that could be int32 are whole float32 numbers: as integers most of them would
    be above 2^29."""
    floats, integers = np.frombuffer(data, "<f4"), np.frombuffer(data, "<i4")
    with np.errstate(invalid="ignore"):
        whole = bool((np.isfinite(floats) & (floats == np.rint(floats))).all())
    return whole and bool((np.abs(integers.astype(np.int64))[integers != 0] > 1 << 29).all())


_HINT: Final = "each line: one raw file for each input, in the model's order or as name:=file"

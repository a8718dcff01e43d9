"""The input list of Qualcomm's tools: each line names the raw files of one inference.

`--input_list` of qnn-net-run and the converters: files are separated by blanks, each optionally
with its input's name, `name:=file`; paths start at the list's folder; lines that begin with # or %
name outputs. Of a decoder's inputs only the token ids count here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from modelc.errors import BadInput, Where
from modelc.quant.samples.row import Row

IDS: Final = ("input_ids", "token_ids")
MAX_LIST_BYTES: Final = 16 << 20
MAX_RAW_BYTES: Final = 1 << 25
MAX_BYTES: Final = 64 << 20  # of all files together
TYPES: Final = ("<i8", "<i4", "<f4")
"""What ids are stored as; the tools themselves write float32. In this order: the halves of an int64
can be taken for int32, but hardly the other way round."""


@dataclass(frozen=True)
class Entry:
    """A raw file of ids and the line that names it."""

    line: int
    path: Path


def read(path: Path, vocabulary: int) -> list[Row]:
    """Return the token ids of every line's raw file, whose integer type follows from all of them.

    Raises:
        BadInput: a file is missing or differs in size, holds no token ids, or is not told from
            other inputs; says the line.
    """
    entries = entries_of(path)
    raw, total = [], 0
    for entry in entries:
        raw.append(_bytes(entry, path))
        total += len(raw[-1])
        if total > MAX_BYTES:
            raise _wrong(path, entry, "is more than calibration can use")
    for entry, data in zip(entries, raw, strict=True):
        if len(data) != len(raw[0]):
            first = f"the file of line {entries[0].line} {len(raw[0])}"
            raise _wrong(path, entry, f"has {len(data)} bytes, {first}")
    for kind in TYPES:
        if all(_are_ids(data, kind, vocabulary) for data in raw):
            return [np.frombuffer(data, kind).astype(np.int64).tolist() for data in raw]
    likeliest = max(TYPES, key=lambda kind: sum(_are_ids(d, kind, vocabulary) for d in raw))
    pairs = zip(entries, raw, strict=True)
    other = next(entry for entry, data in pairs if not _are_ids(data, likeliest, vocabulary))
    raise _wrong(path, other, f"holds no token ids of the vocabulary of {vocabulary}")


def files(path: Path) -> dict[str, Path]:
    """Return the raw files that a list names, by what they are called there.

    Raises:
        BadInput: it is no input list, or a file is missing; says the line.
    """
    entries = entries_of(path)
    for entry in entries:
        _size(entry, path)
    return {f"line {entry.line}": entry.path for entry in entries}


def entries_of(path: Path) -> list[Entry]:
    """Return the list's raw files of token ids, at least one.

    Raises:
        BadInput: the file is no input list, or a line has several files and none is called by its
            name.
    """
    where = Where(path=str(path))
    if path.stat().st_size > MAX_LIST_BYTES:
        raise BadInput("an input list is not as large", where=where, hint=_OR_TEXT)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput(
            "neither an input list of raw files, nor JSON lines, nor a .npz", where=where
        ) from error
    entries = list(_entries(lines, path))
    if not entries:
        raise BadInput("the input list names no file", where=where)
    return entries


def _entries(lines: Sequence[str], path: Path) -> Iterator[Entry]:
    for number, line in enumerate(lines, 1):
        inputs = line.split()
        if not inputs or inputs[0][0] in "#%":
            continue
        named = {
            name: file for name, sign, file in (field.partition(":=") for field in inputs) if sign
        }
        chosen = next((named[name] for name in IDS if name in named), None)
        if chosen is None and len(inputs) == 1:
            chosen = inputs[0].rpartition(":=")[2]
        if not chosen:
            raise BadInput(
                f"line {number}: which of {len(inputs)} files has the token ids is not said",
                where=Where(path=str(path)),
                hint=f"write {IDS[0]}:=FILE. {_OR_TEXT}",
            )
        yield Entry(number, path.parent / chosen)


def _bytes(entry: Entry, path: Path) -> bytes:
    size = _size(entry, path)
    if not size or size % 4 or size > MAX_RAW_BYTES:
        raise _wrong(path, entry, f"has {size} bytes: no token ids of 4 or 8 bytes each")
    try:
        return entry.path.read_bytes()
    except OSError as error:
        raise _wrong(path, entry, f"can't be read: {error.strerror}") from error


def _size(entry: Entry, path: Path) -> int:
    try:
        size = entry.path.stat().st_size
    except OSError as error:
        raise _wrong(path, entry, f"can't be read: {error.strerror}") from error
    if not entry.path.is_file():
        raise _wrong(path, entry, "is no file")
    return size


def _are_ids(data: bytes, kind: str, vocabulary: int) -> bool:
    if len(data) % np.dtype(kind).itemsize:
        return False
    values = np.frombuffer(data, kind)
    with np.errstate(invalid="ignore"):
        return bool(((values >= 0) & (values < vocabulary) & (values == np.floor(values))).all())


def _wrong(path: Path, entry: Entry, what: str) -> BadInput:
    return BadInput(
        f"line {entry.line}: {entry.path} {what}",
        where=Where(path=str(path)),
        hint="int32, int64 or float32 token ids, all files of one size",
    )


_OR_TEXT: Final = "A text is given with --calibration-text."

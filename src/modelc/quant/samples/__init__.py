"""Calibration samples: what a file of them may be, and the sequences that are taken of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.bundle.tokenizer import Tokenizer
from modelc.errors import BadInput, Where
from modelc.quant.samples import jsonl, npz, raw_list
from modelc.quant.samples.cut import cut_batches, spread
from modelc.quant.samples.row import Row, tokens_of
from modelc.quant.samples.text import read_text

__all__ = ["SOURCES", "Source", "cut_text", "pick_rows", "source_of"]


@dataclass(frozen=True)
class Source:
    """One kind of file.

    Attributes:
        suffix: of a copy that is told by its name.
        fits: whether a file with this name and beginning is of this kind.
        read: the rows of a file, all of their ids within a vocabulary of so many.
        files: other files that a file's samples lie in, by what it calls them.
    """

    suffix: str
    fits: Callable[[Path, bytes], bool]
    read: Callable[[Path, int], list[Row]]
    files: Callable[[Path], dict[str, Path]] = lambda path: {}


SOURCES: Final = (
    Source(".npz", npz.fits, npz.read),
    Source(".jsonl", jsonl.fits, jsonl.read),
    Source("", lambda path, start: True, raw_list.read, raw_list.files),
)
"""The first that fits counts."""


def source_of(path: Path) -> Source:
    """Return the row of `SOURCES` for a file of samples.

    Raises:
        BadInput: it can't be read.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(256)
    except OSError as error:
        raise BadInput(
            f"calibration data can't be read: {error.strerror}", where=Where(path=str(path))
        ) from error
    return next(source for source in SOURCES if source.fits(path, start))


def cut_text(path: Path, tokenizer: Tokenizer, samples: int, length: int) -> list[list[int]]:
    """Return sequences out of a text, evenly spread, each of `length` tokens, or the whole text if
    it has fewer.

    Raises:
        BadInput: it is no UTF-8, or tokenises to nothing.
    """
    tokens = tokenizer.encode(read_text(path), add_bos=False)
    if not tokens:
        raise _nothing(path)
    bos = tokenizer.data.bos_id if tokenizer.data.add_bos else None
    whole = len(tokens) + (bos is not None)
    return cut_batches(tokens, samples, min(length, whole), bos)


def pick_rows(
    path: Path, tokenizer: Tokenizer, vocabulary: int, samples: int, length: int
) -> list[list[int]]:
    """Return the beginnings, at most `length` tokens, of `samples` rows of a file of `SOURCES`,
    evenly spread.

    Raises:
        BadInput: the file is of none of its kinds, or all that is chosen tokenises to nothing.
    """
    rows = spread(source_of(path).read(path, vocabulary), samples)
    sequences = [tokens_of(row, tokenizer)[:length] for row in rows]
    if not any(sequences):
        raise _nothing(path)
    return [sequence for sequence in sequences if sequence]


def _nothing(path: Path) -> BadInput:
    return BadInput(
        "the calibration samples tokenise to nothing",
        where=Where(path=str(path)),
        hint="give some text, of the kind that the model is for",
    )

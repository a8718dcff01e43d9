"""Feeds: what a network's inputs are given, for calibration and verification.

They are read one at a time, checked against the graph's inputs, and never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Where
from modelc.quant.feeds import images, npz, raw_list
from modelc.quant.feeds.inputs import Feed, InputSpec, fit_feed, inputs_of
from modelc.quant.feeds.loader import is_function, read_function, read_loader
from modelc.quant.feeds.preprocess import FILE, Preprocess, read_preprocess
from modelc.quant.feeds.random_feeds import random_feeds

__all__ = [
    "SOURCES", "Feed", "InputSpec", "Preprocess", "Source", "files_of", "fit_feed", "inputs_of",
    "is_function", "open_feeds", "random_feeds", "read_loader", "read_preprocess",
]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One kind of place that feeds come from.

    Attributes:
        what: for people.
        fits: whether a path with this beginning is of this kind.
        read: its feeds.
        files: all files that they lie in.
    """

    what: str
    fits: Callable[[Path, bytes], bool]
    read: Callable[[Path, Sequence[InputSpec]], Iterator[Feed]]
    files: Callable[[Path, Sequence[InputSpec]], list[Path]]


SOURCES: Final = (
    Source(
        "a folder of images",
        lambda path, start: path.is_dir(),
        images.read,
        lambda path, specs: images.files(path),
    ),
    Source(".npz", npz.fits, npz.read, lambda path, specs: [path]),
    Source(
        "an input list of raw files",
        lambda path, start: True,
        raw_list.read,
        lambda path, specs: [path, *raw_list.files(path, specs)],
    ),
)
"""The first that fits counts."""


def open_feeds(
    place: str | Path,
    specs: Sequence[InputSpec],
    *,
    limit: int | None = None,
    preprocess: Preprocess | None = None,
) -> Iterator[Feed]:
    """Yield the feeds of a path of one of `SOURCES`, or of FILE.py:function.

    Args:
        limit: most feeds; None: all.
        preprocess: of images, in place of their folder's `preprocess.toml`.

    Raises:
        BadInput: there is nothing, or it does not fit the inputs.
        Missing: it takes a package that is not installed.
    """
    if is_function(str(place)):
        feeds = read_function(str(place), specs)
    else:
        path = Path(place)
        source = _source(path)
        read = partial(images.read, preprocess=preprocess) if path.is_dir() else source.read
        feeds = read(path, specs)
    yield from islice(feeds, limit)


def files_of(place: str | Path, specs: Sequence[InputSpec]) -> list[Path]:
    """Return all files that feeds come from, for whoever wants to know whether they changed.

    Raises:
        BadInput: as `open_feeds`.
    """
    if is_function(str(place)):
        return [Path(str(place).rpartition(":")[0])]
    path = Path(place)
    found = _source(path).files(path, specs)
    settings = path / FILE
    return [*found, settings] if path.is_dir() and settings.is_file() else found


def _source(path: Path) -> Source:
    start = b""
    try:
        if not path.is_dir():
            with path.open("rb") as stream:
                start = stream.read(256)
    except OSError as error:
        raise BadInput(
            f"calibration data can't be read: {error.strerror}",
            where=Where(path=str(path)),
            hint="give an input list, a .npz, a folder of images, or FILE.py:function",
        ) from error
    return next(source for source in SOURCES if source.fits(path, start))

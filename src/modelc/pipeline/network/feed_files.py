"""Where feeds lie: the files whose contents a step that reads them depends on."""

from __future__ import annotations

from pathlib import Path

from modelc.errors import BadInput, Where
from modelc.quant.feeds import is_function
from modelc.quant.feeds.images import files as images_of
from modelc.quant.feeds.npz import fits as is_npz
from modelc.quant.feeds.preprocess import FILE
from modelc.quant.feeds.raw_list import MAX_LIST_BYTES

_START = 256  # bytes that tell what a file is


def feed_files(place: Path) -> dict[str, Path]:
    """Return name -> file of all that feeds at `place` are made of, as far as it can be told
    without the model: of FILE.py:function only the file itself.

    Raises:
        BadInput: there is nothing.
    """
    if is_function(str(place)):
        file = Path(str(place).rpartition(":")[0])
        return {"": _there(file)}
    if place.is_dir():
        settings = place / FILE
        found = [*images_of(place), *([settings] if settings.is_file() else [])]
        return {path.relative_to(place).as_posix(): path for path in found}
    with _there(place).open("rb") as stream:
        start = stream.read(_START)
    if is_npz(place, start):
        return {"": place}
    return {"": place, **_listed(place)}


def _listed(place: Path) -> dict[str, Path]:
    """Return the raw files that a list names."""
    where = Where(path=str(place))
    if place.stat().st_size > MAX_LIST_BYTES:
        raise BadInput("an input list is not as large", where=where)
    try:
        lines = place.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadInput("neither an input list of raw files nor a .npz", where=where) from error
    names = [
        field.partition(":=")[2] or field
        for line in lines
        if line.strip() and line.strip()[0] not in "#%"
        for field in line.split()
    ]
    # One that is missing is told by whoever reads the list, with its line.
    return {name: path for name in names if (path := place.parent / name).is_file()}


def _there(path: Path) -> Path:
    if not path.is_file():
        raise BadInput(
            "there is no such file or folder",
            where=Where(path=str(path)),
            hint="give an input list, a .npz, a folder of images, or FILE.py:function",
        )
    return path

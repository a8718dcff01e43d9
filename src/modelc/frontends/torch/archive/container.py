"""The zip of an exported program: which entries it has, each proven to lie within the file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from modelc.errors import BadInput, Where
from modelc.files import DAMAGED_ZIP
from modelc.frontends.fields import MAX_JSON_BYTES, parse_json

MODELS: Final = "models/"
WEIGHTS: Final = "data/weights/"
CONSTANTS: Final = "data/constants/"
COMPILED: Final = "data/aotinductor/"
FORMAT: Final = "archive_format"
VERSION: Final = "archive_version"
BYTE_ORDER: Final = "byteorder"

MOST_ENTRIES: Final = 1 << 20
_SMALL: Final = 64
_ENCRYPTED: Final = 1
_AGAIN: Final = (
    "save it with torch.export.save of torch 2.13; or write a function that returns "
    "torch.export.load(...), if you trust it, and give FILE.py:FUNCTION"
)


@dataclass(frozen=True)
class Container:
    """An open archive.

    Attributes:
        entries: what lies under the one folder at the top, by the path from there.
        model: what the one program is called.
    """

    path: Path
    file: zipfile.ZipFile
    entries: dict[str, zipfile.ZipInfo]
    model: str

    def size(self, name: str) -> int | None:
        """Return an entry's bytes, None if there is no such entry."""
        entry = self.entries.get(name)
        return entry.file_size if entry else None

    def open(self, name: str) -> IO[bytes]:
        return self.file.open(self.entries[name])

    def json(self, name: str) -> dict[str, Any]:
        """Return the object that an entry holds.

        Raises:
            BadInput: there is no such entry, it is too large, or no JSON.
        """
        return dict(parse_json(_read(self, name, MAX_JSON_BYTES), self.path).values)


@contextmanager
def open_container(path: Path) -> Iterator[Container]:
    """Open an archive of the layout that torch writes since 2.8.

    Raises:
        BadInput: it is none, is damaged (as reading may find as well), or has more than one program
            or none.
    """
    where = Where(path=str(path))
    try:
        with zipfile.ZipFile(path) as file:
            yield _checked(path, file)
    except BadInput as error:
        raise BadInput(error.message, where=error.where if error.where.path else where,
                       hint=error.hint) from error  # fmt: skip
    except DAMAGED_ZIP as error:
        raise BadInput(
            f"the archive can't be read: {error}",
            where=where,
            hint="is the file whole? torch.export.save writes a .pt2 archive",
        ) from error


def _checked(path: Path, file: zipfile.ZipFile) -> Container:
    infos, size = file.infolist(), path.stat().st_size
    if not 0 < len(infos) <= MOST_ENTRIES:
        raise BadInput("the archive has no entries, or too many")
    names = {info.filename for info in infos}
    if "serialized_exported_program.json" in names:
        raise BadInput("an older torch wrote it, in a layout that is not read", hint=_AGAIN)
    entries: dict[str, zipfile.ZipInfo] = {}
    tops = set[str]()
    for info in infos:
        top, _, rest = info.filename.partition("/")
        tops.add(top)
        if not all(_is_plain(part) for part in info.filename.split("/")) or rest in entries:
            raise BadInput(
                f"the archive has an entry {info.filename[:80]!r}",
                hint="torch.export.save writes plain names, each once",
            )
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
            raise BadInput(
                f"the entry {info.filename} is compressed or encrypted",
                hint="torch.export.save stores entries as they are",
            )
        if info.file_size != info.compress_size or not (
            0 <= info.header_offset <= info.header_offset + info.file_size <= size
        ):
            raise BadInput(f"the entry {info.filename} does not lie within the file")
        entries[rest] = info
    if sum(info.file_size for info in infos) > size:
        raise BadInput("the archive's entries are larger than its file")
    if len(tops) != 1:
        raise BadInput("no exported program: the archive has several folders", hint=_AGAIN)
    container = Container(path, file, entries, "")
    for name, wanted in ((FORMAT, b"pt2"), (VERSION, b"0"), (BYTE_ORDER, b"little")):
        found = _read(container, name, _SMALL)
        if found != wanted:
            raise BadInput(f"its {name} is {found!r}, not {wanted!r}", hint=_AGAIN)
    return Container(path, file, entries, _model(entries))


def _is_plain(part: str) -> bool:
    # Nothing is extracted; but what is named so was not written by torch.
    return bool(part.strip(".")) and part.isprintable() and "\\" not in part


def _model(entries: dict[str, zipfile.ZipInfo]) -> str:
    if any(name.startswith(COMPILED) for name in entries):
        raise BadInput(
            "the archive holds compiled code (AOTInductor)",
            hint="save the exported program itself: torch.export.save(program, 'model.pt2')",
        )
    models = [name for name in entries if name.startswith(MODELS)]
    if len(models) != 1 or not models[0].endswith(".json"):
        raise BadInput(
            f"the archive holds {len(models)} programs, not one",
            hint="save each alone: torch.export.save(program, 'model.pt2')",
        )
    name = models[0].removeprefix(MODELS).removesuffix(".json")
    for folder in (WEIGHTS, CONSTANTS):
        if f"{folder}{name}.pt" in entries:
            raise BadInput(f"an older torch wrote its {folder}{name}.pt, by pickling", hint=_AGAIN)
    return name


def _read(container: Container, name: str, most: int) -> bytes:
    size = container.size(name)
    if size is None:
        raise BadInput(f"no exported program: the archive has no {name}", hint=_AGAIN)
    if size > most:
        raise BadInput(f"the entry {name} is too large: {size} bytes")
    return container.file.read(container.entries[name])

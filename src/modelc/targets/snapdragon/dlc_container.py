"""The container of a DLC: a ZIP file whose members are stored and whose CRC fields are 0.

Because of those fields Python's zipfile refuses to read members. Layout: PKWARE's APPNOTE 6.3.10,
sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (its end), 4.5.3 (ZIP64).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from modelc.errors import Damaged, Where
from modelc.files import is_safe_name

# Orders of magnitude above what a DLC holds; they bound the memory that a hostile file can ask for.
MAX_DIRECTORY_BYTES: Final = 4 << 20
MAX_COMMENT_BYTES: Final = 0xFFFF

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_EXTRA: Final = 1
_IN_ZIP64: Final = 0xFFFFFFFF  # a 32-bit field whose value is in the ZIP64 extra field
_ENCRYPTED: Final = 1
_STORED: Final = 0


@dataclass(frozen=True)
class Member:
    """A member: its bytes lie in the file at [offset, offset + size), uncompressed."""

    name: str
    offset: int
    size: int


def read_members(path: Path) -> tuple[Member, ...]:
    """Return the members in the order of the directory. None overlaps another or leaves the file.

    Raises:
        Damaged: it is not a ZIP file of stored members, is cut short, or its names, sizes or
            offsets are impossible.
    """
    where = Where(path=str(path))
    size = path.stat().st_size
    with path.open("rb") as file:
        start, length, count = _directory(file, size, where)
        directory = _read(file, start, length, size, where)
        members = tuple(
            _locate(file, name, offset, stored, size, where)
            for name, offset, stored in _entries(directory, count, where)
        )
    _check_apart(members, start, where)
    return members


def read_member(path: Path, member: Member, limit: int) -> bytes:
    """Return a member's bytes.

    Raises:
        Damaged: it is larger than `limit` bytes.
    """
    where = Where(path=str(path))
    _check(member.size <= limit, f"{member.name} has {member.size} bytes", where)
    with path.open("rb") as file:
        return _read(file, member.offset, member.size, path.stat().st_size, where)


def _directory(file: IO[bytes], size: int, where: Where) -> tuple[int, int, int]:
    """Return start and length of the directory in bytes, and how many entries it has."""
    tail_start = max(0, size - _END.size - MAX_COMMENT_BYTES)
    tail = _read(file, tail_start, size - tail_start, size, where)
    place = _find_end(tail)
    _check(place >= 0, "it has no directory", where)
    _, disk, first_disk, _, count, length, start, _ = _END.unpack_from(tail, place)
    _check(disk == first_disk == 0, "it is one of several volumes", where)
    end = tail_start + place
    if _IN_ZIP64 in (length, start) or count == 0xFFFF:
        locator = _read(file, end - _LOCATOR.size, _LOCATOR.size, size, where)
        mark, _, end, _ = _LOCATOR.unpack(locator)
        _check(mark == b"PK\6\7", "it has no ZIP64 locator", where)
        mark, *_, count, length, start = _END64.unpack(_read(file, end, _END64.size, size, where))
        _check(mark == b"PK\6\6", "it has no ZIP64 directory", where)
    _check(length <= MAX_DIRECTORY_BYTES, f"its directory has {length} bytes", where)
    _check(start + length <= end, "its directory lies outside", where)
    return start, length, count


def _find_end(tail: bytes) -> int:
    """Return where the record lies that ends the file with its comment, or -1."""
    place = tail.rfind(b"PK\5\6")
    while place >= 0:
        ends = place + _END.size
        if ends <= len(tail) and ends + _END.unpack_from(tail, place)[-1] == len(tail):
            return place
        place = tail.rfind(b"PK\5\6", 0, place + 3)
    return -1


def _entries(directory: bytes, count: int, where: Where) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset of the local header and size of each entry."""
    place, seen = 0, set()
    while place < len(directory):
        _check(place + _ENTRY.size <= len(directory), "its directory is cut short", where)
        fields = _ENTRY.unpack_from(directory, place)
        mark, flags, method = fields[0], fields[3], fields[4]
        packed, size, name_length, extra_length, comment_length = fields[8:13]
        _check(mark == b"PK\1\2", "its directory is damaged", where)
        name_start = place + _ENTRY.size
        extra_start = name_start + name_length
        place = extra_start + extra_length + comment_length
        _check(place <= len(directory), "its directory is cut short", where)
        name = directory[name_start:extra_start].decode(errors="replace")
        extra = directory[extra_start : extra_start + extra_length]
        size, packed, offset = _widen((size, packed, fields[16]), extra, where)
        _check(is_safe_name(name) and "\ufffd" not in name, f"a member is named {name!r}", where)
        _check(name not in seen, f"two members are named {name}", where)
        plain = method == _STORED and not flags & _ENCRYPTED and packed == size
        _check(plain, f"{name} is compressed or encrypted", where)
        seen.add(name)
        yield name, offset, size
    _check(len(seen) == count, f"its directory has {len(seen)} entries, not {count}", where)


def _widen(values: Sequence[int], extra: bytes, where: Where) -> list[int]:
    """Return size, packed size and offset, taken from the ZIP64 extra field where it has them."""
    wide, place = b"", 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == _ZIP64_EXTRA:
            wide = extra[place + 4 : place + 4 + length]
        place += 4 + length
    given = iter([value for (value,) in struct.iter_unpack("<Q", wide[: len(wide) // 8 * 8])])
    widened = [next(given, None) if value == _IN_ZIP64 else value for value in values]
    _check(None not in widened, "a ZIP64 field is missing", where)
    return [value for value in widened if value is not None]


def _locate(
    file: IO[bytes], name: str, offset: int, stored: int, size: int, where: Where
) -> Member:
    """Return where a member's bytes begin: behind its local header, which repeats its name."""
    header = _LOCAL.unpack(_read(file, offset, _LOCAL.size, size, where))
    name_length, extra_length = header[-2:]
    repeated = _read(file, offset + _LOCAL.size, name_length, size, where)
    same = header[0] == b"PK\3\4" and repeated == name.encode()
    _check(same, f"{name} is not where its directory says", where)
    return Member(name, offset + _LOCAL.size + name_length + extra_length, stored)


def _check_apart(members: Sequence[Member], limit: int, where: Where) -> None:
    """Check that members end before the next begins, and the last before `limit`."""
    ordered = sorted(members, key=lambda member: (member.offset, member.size))
    starts = [member.offset for member in ordered[1:]] + [limit]
    for member, following in zip(ordered, starts, strict=False):
        fits = member.offset + member.size <= following
        _check(fits, f"{member.name} of {member.size} bytes runs into what follows", where)


def _read(file: IO[bytes], offset: int, length: int, size: int, where: Where) -> bytes:
    """Read exactly `length` bytes of a file of `size`."""
    _check(0 <= offset <= size and length <= size - offset, "it is cut short", where)
    file.seek(offset)
    data = file.read(length)
    _check(len(data) == length, "it changed while it was read", where)
    return data


def _check(fine: bool, what: str, where: Where) -> None:
    if not fine:
        raise Damaged(f"not a DLC: {what}", where=where, hint="write it again")

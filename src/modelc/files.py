"""Files that are whole or absent: atomic writes, copies that hash, digests of a folder."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, Final

from modelc.errors import BadInput, Damaged, ModelcError, Where
from modelc.hashing import CHUNK_BYTES, file_digest

NO_SPACE = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})

DAMAGED_ZIP: Final = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,  # zipfile's word for a compression that it doesn't know
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What `zipfile`, and NumPy by way of it, raise for damaged files: cut off, bad sums, compressed or
encrypted in a way that isn't known, entries that aren't what they should be."""


@dataclass(frozen=True)
class FileDigest:
    """What a file must be: its size in bytes and the SHA-256 (hex) of its bytes."""

    __pydantic_config__: ClassVar = {"strict": True, "extra": "forbid"}

    size: int
    sha256: str


def is_safe_name(name: str) -> bool:
    """Whether `name` is a relative path with forward slashes that stays inside its folder."""
    path = PurePosixPath(name)
    return (
        bool(name)
        and str(path) == name
        and name != "."
        and not path.is_absolute()
        and ".." not in path.parts
        and not any(character in name for character in ("\\", "\0", ":"))
    )


def folder_files(root: Path) -> dict[str, Path]:
    """Return the regular files under `root` by relative name (forward slashes), sorted.

    Raises:
        BadInput: a link or something that is neither file nor folder lies there.
    """
    found: dict[str, Path] = {}
    for folder, subfolders, names in os.walk(root):
        for name in [*names, *subfolders]:
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise BadInput("not a plain file", where=Where(path=str(path)))
            if path.is_file():
                found[path.relative_to(root).as_posix()] = path
    return dict(sorted(found.items()))


def describe_folder(root: Path) -> dict[str, FileDigest]:
    """Hash every file under `root`."""
    return {
        name: FileDigest(path.stat().st_size, file_digest(path))
        for name, path in folder_files(root).items()
    }


def check_files(root: Path, expected: Mapping[str, FileDigest], *, contents: bool) -> None:
    """Check that the files lie inside `root` with their sizes and, if `contents`, their SHA-256.

    Raises:
        Damaged: naming the first file that is missing, elsewhere or different.
    """
    home = root.resolve()
    for name, wanted in expected.items():
        path = root / name
        where = Where(path=str(path))
        if not is_safe_name(name) or not path.resolve().is_relative_to(home):
            raise Damaged(f"{name!r} lies outside its folder", where=where)
        if not path.is_file():
            raise Damaged(f"{name} is missing", where=where)
        size = path.stat().st_size
        if size != wanted.size:
            raise Damaged(f"{name} has {size} bytes instead of {wanted.size}", where=where)
        if contents and readable_digest(path) != wanted.sha256:
            raise Damaged(f"{name} is not what it was when written (SHA-256)", where=where)


def readable_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file.

    Raises:
        BadInput: it can't be read.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise BadInput(
            f"the file can't be read: {error.strerror}",
            where=Where(path=str(path)),
            hint="check that it is there and that you may read it",
        ) from error


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that a kill leaves the old or the new one whole; `durable` outlives power."""
    with whole_file(path) as partial, partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        if durable:
            os.fsync(stream.fileno())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the name of a file to write, which takes the place of `path` when it is whole."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def copy_hashed(source: Path, destination: Path) -> FileDigest:
    """Copy a file and hash it in the same reading."""
    sha, size = hashlib.sha256(), 0
    with source.open("rb") as reader, destination.open("xb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            sha.update(chunk)
            writer.write(chunk)
            size += len(chunk)
    return FileDigest(size, sha.hexdigest())


def copy_in_kernel(source: Path, destination: Path) -> int:
    """Copy a file without its bytes passing through this process; returns the size.

    The kernel shares the blocks where the file system can (btrfs, XFS).
    """
    if not hasattr(os, "copy_file_range"):
        shutil.copyfile(source, destination)
        return destination.stat().st_size
    size = 0
    with source.open("rb") as reader, destination.open("xb") as writer:
        try:
            while done := os.copy_file_range(reader.fileno(), writer.fileno(), 1 << 30):
                size += done
        except OSError as error:
            if size or error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM):
                raise
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)
            size = writer.tell()
    return size


def sync(path: Path) -> None:
    """Bring a file or folder to the disk (folders: where the platform can open them)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def space_needed(path: Path, hint: str) -> Iterator[None]:
    """Turn a full disk into a ModelcError that says which one and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise ModelcError(
            f"no space left on the disk of {path}", where=Where(path=str(path)), hint=hint
        ) from error

"""Writes a bundle: whole at its destination, or not at all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from modelc import __version__
from modelc.bundle.exchange import put_in_place, staging
from modelc.bundle.manifest import (
    MANIFEST,
    Manifest,
    dump_manifest,
    is_bundle,
    listed_files,
    sealed,
)
from modelc.errors import BadInput, Damaged, ModelcError, Where
from modelc.files import (
    NO_SPACE,
    FileDigest,
    check_files,
    copy_hashed,
    copy_in_kernel,
    is_safe_name,
    space_needed,
    sync,
)


@dataclass(frozen=True)
class FromFile:
    """A file to copy; where its digest is known and checked, its bytes need not be read here."""

    path: Path
    digest: FileDigest | None = None


@dataclass(frozen=True)
class Draft:
    """A bundle to be written: its manifest without `files` and `modelc`, and its files by name."""

    manifest: Manifest
    files: Mapping[str, FromFile | bytes]


def write_bundle(destination: Path, draft: Draft) -> Manifest:
    """Write a bundle and return its manifest as written.

    It is staged beside the destination and renamed, so that a kill leaves the old or the new one
    whole; what killed writers left is removed. A bundle that is already there as drafted is kept.

    Raises:
        BadInput: something else is at the destination, or a file has a name that is none.
        ModelcError: no space left.
    """
    # Links are resolved: the folder that a link names is replaced, not the link.
    place = destination.resolve()
    for name in draft.files:
        if not is_safe_name(name) or name == MANIFEST:
            raise BadInput(f"{name!r} is no name for a file of a bundle")
    hint = "free some, or write the bundle to another disk (-o DIR)"
    with space_needed(place, hint), _unwritable(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        with staging(place) as staged:
            _check_replaceable(place)
            return _as_drafted(place, draft) or _write(staged, place, draft)


def check_destination(destination: Path) -> None:
    """Refuse a destination that `write_bundle` would refuse, before the work is done.

    Raises:
        BadInput: something else is there.
        ModelcError: nothing can be written there.
    """
    place = destination.resolve()
    _check_replaceable(place)
    with _unwritable(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        probe = place.with_name(f".{place.name}.probe")
        probe.touch()
        probe.unlink()


def _write(staged: Path, place: Path, draft: Draft) -> Manifest:
    staged.mkdir()
    files = {name: _put(staged / name, draft.files[name]) for name in sorted(draft.files)}
    manifest = _complete(draft, files)
    _put(staged / MANIFEST, dump_manifest(manifest))
    for path in (*staged.rglob("*"), staged):
        sync(path)
    put_in_place(place)
    sync(place.parent)
    return manifest


def _put(target: Path, content: FromFile | bytes) -> FileDigest:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
        return FileDigest(len(content), sha256(content).hexdigest())
    if content.digest is None:
        return copy_hashed(content.path, target)
    size = copy_in_kernel(content.path, target)
    if size != content.digest.size:
        raise Damaged(
            f"{content.path.name} has {size} bytes instead of {content.digest.size}",
            where=Where(path=str(content.path)),
        )
    return content.digest


def _complete(draft: Draft, files: Mapping[str, FileDigest]) -> Manifest:
    return sealed(dataclasses.replace(draft.manifest, files=dict(files), modelc=__version__))


def _as_drafted(place: Path, draft: Draft) -> Manifest | None:
    """Return the manifest of the bundle at `place` if it is what would be written, whole."""
    files: dict[str, FileDigest] = {}
    for name, content in draft.files.items():
        digest = _known(content)
        if digest is None:
            return None
        files[name] = digest
    manifest = _complete(draft, files)
    try:
        if (place / MANIFEST).read_bytes() != dump_manifest(manifest):
            return None
        check_files(place, files, contents=True)
    except (OSError, Damaged):
        return None
    return manifest


def _known(content: FromFile | bytes) -> FileDigest | None:
    if isinstance(content, bytes):
        return FileDigest(len(content), sha256(content).hexdigest())
    return content.digest


def _check_replaceable(place: Path) -> None:
    """Replace nothing but a bundle or an empty folder."""
    if not os.path.lexists(place):
        return
    where = Where(path=str(place))
    if not place.is_dir():
        raise BadInput("a file is in the bundle's place", where=where, hint="choose another -o")
    found = {path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir()}
    if not found and not any(place.iterdir()):
        return
    if not is_bundle(place):
        raise BadInput(
            "the folder is not empty and no bundle", where=where, hint="choose another -o"
        )
    foreign = sorted(found - listed_files(place))
    if foreign:
        raise BadInput(
            f"the bundle there also holds files that are not its own: {', '.join(foreign[:5])}",
            where=where,
            hint="move them away, or choose another -o",
        )


@contextmanager
def _unwritable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
        raise ModelcError(
            f"the bundle can't be written: {error.strerror}",
            where=Where(path=str(error.filename or place)),
            hint="choose another -o",
        ) from error

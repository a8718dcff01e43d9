"""Keeps the store in order: lists, checks and removes entries."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from modelc.errors import Damaged, ModelcError, Where
from modelc.pipeline.store import Store


@dataclass(frozen=True)
class Listed:
    """An entry as `modelc cache list` shows it.

    Attributes:
        size: bytes of its files, 0 if damaged.
        last_used: seconds since 1970, when it was made or last used.
        damage: what is wrong with it, "" if nothing.
    """

    key: str
    step: str
    size: int
    seconds: float
    created: str
    last_used: float
    damage: str = ""


@dataclass(frozen=True)
class Pruned:
    """What was removed, in entries and bytes."""

    entries: int
    size: int


def list_store(store: Store) -> list[Listed]:
    """Return all entries, the last used first; sizes are checked."""
    return _listed(store, contents=False)


def verify_store(store: Store) -> list[Listed]:
    """Read all entries and return those that are not what their records say."""
    return [entry for entry in _listed(store, contents=True) if entry.damage]


def prune_store(
    store: Store,
    *,
    older_than_s: float | None = None,
    max_bytes: int | None = None,
    everything: bool = False,
) -> Pruned:
    """Remove entries that were not used for so long, or the least recently used until the rest
    fits, or all; and always damaged ones, and what is left of steps that
    did not end.

    Raises:
        ModelcError: a compile is using the store.
    """
    removed = size = 0
    with store.usage.pruning():
        if users := store.usage.users():
            raise ModelcError(
                f"the store is in use by {users} running compile{'s' if users > 1 else ''}",
                where=Where(path=str(store.root)),
                hint="prune when they are done",
            )
        always, history = ("staging", "partial", "damaged", "logs"), ("latest", "digests")
        for name in (*always, *(history if everything else ())):
            size += _empty(store.root / name)
        for entry in _outdated(list_store(store), older_than_s, max_bytes, everything):
            size += _remove(store, entry.key)
            removed += 1
    return Pruned(removed, size)


def _listed(store: Store, *, contents: bool) -> list[Listed]:
    found = (_look(store, path, contents) for path in (store.root / "entries").iterdir())
    return sorted(
        (entry for entry in found if entry), key=lambda entry: (-entry.last_used, entry.key)
    )


def _look(store: Store, path: Path, contents: bool) -> Listed | None:
    """Return what an entry is, None if it went away meanwhile."""
    try:
        entry = store.find(path.name, contents=contents)
    except Damaged as error:
        if not path.exists():
            return None
        return Listed(path.name, "", 0, 0.0, "", path.stat().st_mtime, error.message)
    if entry is None:
        return None
    record = entry.record
    return Listed(
        key=record.key,
        step=record.fingerprint.step,
        size=record.size,
        seconds=record.seconds,
        created=record.created,
        last_used=(path / "record.json").stat().st_mtime,
    )


def _outdated(
    entries: list[Listed], older_than_s: float | None, max_bytes: int | None, everything: bool
) -> Iterator[Listed]:
    kept, now = 0, time.time()
    for entry in entries:
        kept += entry.size
        if (
            everything
            or entry.damage
            or (older_than_s is not None and now - entry.last_used > older_than_s)
            or (max_bytes is not None and kept > max_bytes)
        ):
            kept -= entry.size
            yield entry


def _remove(store: Store, key: str) -> int:
    """Remove an entry with its lock, unless it is being made; returns its bytes."""
    lock = store.lock(key)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return 0
    try:
        # First out of sight, so that a kill leaves no half of an entry.
        size = _bytes(store.set_aside(key))
        _empty(store.root / "damaged")
        Path(lock.lock_file).unlink(missing_ok=True)
        return size
    finally:
        lock.release()


def _empty(folder: Path) -> int:
    size = _bytes(folder)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return size


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size if not path.is_dir() else 0
    return total

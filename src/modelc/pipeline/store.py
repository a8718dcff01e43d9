"""The store: results of steps by key, each whole or absent, shared by any number of processes.

    <root>/v1/
      entries/<key>/record.json     what it is and cost
      entries/<key>/files/...       what the step made, to read only
      staging/<key>.<random>/       a result being made, renamed into entries when whole
      partial/<key>/                how far steps came that did not end, for them to go on from
      damaged/<key>.<random>/       an entry that was not what its record says
      locks/<key>.lock              held by whoever makes or removes that entry
      locks/prune.lock, active/     who is using the store now, see `usage`
      latest/<id>.json              fingerprint of a step's last run, for `explain`
      digests/<id>.json             SHA-256 of source files whose stat has not changed
      logs/                         what isolated steps printed

Entries are not brought to the disk one by one: after a loss of power a broken one is found by its
record, and made again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from modelc.errors import Damaged, ModelcError, Where
from modelc.files import check_files, space_needed, write_atomic
from modelc.pipeline.record import RECORDS, Record, dump, load
from modelc.pipeline.usage import Usage

BUCKET = "v1"
"""Raised when the layout changes, so that old and new modelc don't meet."""

SPACE_HINT = "free some: modelc cache prune; or set MODELC_STORE to a folder on another disk"


def default_root() -> Path:
    """MODELC_STORE, or the user's cache folder."""
    return Path(os.environ.get("MODELC_STORE") or platformdirs.user_cache_path("modelc"))


@dataclass(frozen=True)
class Entry:
    """A result in the store: its record and the folder with its files."""

    record: Record
    path: Path


class Store:
    """Results by key. Making, replacing and removing an entry needs its lock (`lock`)."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_root()).absolute() / BUCKET
        self.usage = Usage(self.root)
        self._checked: set[str] = set()
        with space_needed(self.root, SPACE_HINT):
            try:
                for name in ("entries", "staging", "partial", "locks", "active", "logs"):
                    (self.root / name).mkdir(parents=True, exist_ok=True)
            except (PermissionError, FileExistsError, NotADirectoryError) as error:
                raise ModelcError(
                    f"the store can't be written: {error.strerror}",
                    where=Where(path=str(self.root)),
                    hint="set MODELC_STORE to a folder that you can write",
                ) from error

    def folder(self, key: str) -> Path:
        """Where the entry of `key` is or would be."""
        return self.root / "entries" / key

    def partial(self, key: str) -> Path:
        """Where those who make `key`'s entry leave how far they came; needs its lock."""
        return self.root / "partial" / key

    def find(self, key: str, *, contents: bool = False) -> Entry | None:
        """Return the entry of `key`, None if there is none.

        Sizes are checked always; SHA-256 if `contents`, once per process.

        Raises:
            Damaged: the entry is not what its record says.
        """
        folder = self.folder(key)
        if not folder.is_dir():
            return None
        record = load(RECORDS, folder / "record.json")
        if record.key != key or record.fingerprint.key != key:
            raise Damaged("a record of another result", where=Where(path=str(folder)))
        check_files(folder / "files", record.files, contents=contents and key not in self._checked)
        if contents:
            self._checked.add(key)
        return Entry(record, folder / "files")

    def touch(self, key: str) -> None:
        """Note that the entry was used now; pruning goes by this."""
        os.utime(self.folder(key) / "record.json")

    def lock(self, key: str) -> FileLock:
        """The lock of one key, not yet taken. Another process's death releases it."""
        return FileLock(self.root / "locks" / f"{key}.lock")

    @contextmanager
    def staging(self, key: str) -> Iterator[Path]:
        """Give an empty folder to make `key`'s entry in; needs its lock. Gone afterwards, with
        all that was not committed. The key's `partial` folder is there meanwhile, and stays until
        the entry is whole if something is in it."""
        for leftover in (self.root / "staging").glob(f"{key}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # A new name each time: a child that outlived its killed parent can't write into ours.
        folder = self.root / "staging" / f"{key}.{uuid.uuid4().hex[:8]}"
        (folder / "files").mkdir(parents=True)
        (folder / "scratch").mkdir()
        self.partial(key).mkdir(exist_ok=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                self.partial(key).rmdir()  # only if it is empty

    def commit(self, staged: Path, record: Record) -> Entry:
        """Make what was staged the entry of its key; needs its lock."""
        shutil.rmtree(staged / "scratch")
        write_atomic(staged / "record.json", dump(record), durable=False)
        staged.rename(self.folder(record.key))
        shutil.rmtree(self.partial(record.key), ignore_errors=True)
        self._checked.add(record.key)
        return Entry(record, self.folder(record.key) / "files")

    def set_aside(self, key: str) -> Path:
        """Move a damaged entry out of the way and return where it is now; needs its lock."""
        target = self.root / "damaged" / f"{key}.{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(exist_ok=True)
        self._checked.discard(key)
        return self.folder(key).rename(target)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the store from being pruned meanwhile; clean up after killed processes first."""
        with self.usage.held():
            self._sweep()
            yield

    def claim(self, keys: Iterable[str]) -> None:
        """Say which results are needed, until `release` or the end of `in_use`: other executions
        leave them where they are."""
        self.usage.claim(keys)

    def release(self, key: str) -> None:
        """Take a claim back; the entry is removed unless somebody else claims it."""
        self.usage.release(key, self._remove)

    def _remove(self, key: str) -> None:
        try:
            with self.lock(key).acquire(timeout=0):
                if self.folder(key).exists():
                    # Out of sight first, where a kill leaves nothing that counts as a result.
                    target = self.root / "staging" / f"{key}.{uuid.uuid4().hex[:8]}"
                    self._checked.discard(key)
                    shutil.rmtree(self.folder(key).rename(target), ignore_errors=True)
        except Timeout:
            return  # somebody who doesn't claim it makes or removes it: then it is theirs

    def _sweep(self) -> None:
        whole = (path for path in self._folders("partial") if self.folder(path.name).exists())
        for leftover in (*self._folders("staging"), *whole):
            try:
                with self.lock(leftover.name.partition(".")[0]).acquire(timeout=0):
                    shutil.rmtree(leftover, ignore_errors=True)
            except Timeout:
                continue  # being made right now

    def _folders(self, name: str) -> Iterator[Path]:
        return (self.root / name).iterdir()

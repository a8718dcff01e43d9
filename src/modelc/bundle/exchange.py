"""Puts a new folder in the place of an old one, so that one of them is always there whole.

Beside the destination `b`, while it is written or if its writer was killed:

    .b.modelc-lock    held by the writer; its death releases it
    .b.modelc-new     what is being written
    .b.modelc-old     the old one between two renames, where the kernel can't swap
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP)


@contextmanager
def staging(destination: Path) -> Iterator[Path]:
    """Give the name of a folder, not there yet, to write what `put_in_place` is to put there.

    Waits for another writer of the same destination; removes what killed ones left, and brings
    back an old folder that one of them had put aside.
    """
    new, old = _beside(destination, "new"), _beside(destination, "old")
    lock = FileLock(_beside(destination, "lock"))
    Path(lock.lock_file).touch()  # raises where no file can be made; the lock would try for ever
    with lock:
        try:
            if old.is_dir() and not os.path.lexists(destination):
                old.rename(destination)
            _remove(new, old)
            yield new
        finally:
            _remove(new, old)
            with suppress(OSError):  # an open file can't be removed everywhere
                Path(lock.lock_file).unlink()


def put_in_place(destination: Path) -> None:
    """Move the staged folder to `destination`; the old one is removed when the staging ends.

    On Linux the two change names in one call. Where that is not offered there is a moment with the
    old one only beside its place, from which `recover` brings it back.
    """
    new, old = _beside(destination, "new"), _beside(destination, "old")
    try:
        new.rename(destination)  # also over an empty folder
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):
            raise
    if _exchange(new, destination):
        return
    destination.rename(old)
    try:
        new.rename(destination)
    except OSError:
        old.rename(destination)
        raise


def recover(destination: Path) -> None:
    """Bring an old folder back if its writer was killed between its two renames."""
    place = destination.absolute()
    if not os.path.lexists(place) and _beside(place, "old").is_dir():
        with staging(place):
            pass


def _beside(destination: Path, what: str) -> Path:
    return destination.with_name(f".{destination.name}.modelc-{what}")


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """renameat2(2) with RENAME_EXCHANGE; False where it is not offered."""
    if sys.platform != "linux":
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_OFFERED:
        return False
    raise OSError(code, os.strerror(code), str(other))

"""Puts a new folder in the place of an old one, so that one of them is always there whole."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP)


def put_in_place(new: Path, destination: Path) -> Path | None:
    """Move folder `new` to `destination`; return where the old one is now, None if there was none.

    `new` and `destination` are beside each other. On Linux the two change names in one call; where
    that is not offered there is a moment with the old one only under its `put_aside` name, from
    which `recover` brings it back.
    """
    try:
        new.rename(destination)  # also over an empty folder
        return None
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):
            raise
    if _exchange(new, destination):
        return new
    aside = put_aside(destination)
    destination.rename(aside)
    try:
        new.rename(destination)
    except OSError:
        aside.rename(destination)
        raise
    return aside


def put_aside(destination: Path) -> Path:
    """The name that an old folder has between the two renames."""
    return destination.with_name(f".{destination.name}.modelc-old")


def recover(destination: Path) -> None:
    """Bring an old folder back if a writer was killed between its two renames."""
    aside = put_aside(destination.absolute())
    if not os.path.lexists(destination) and aside.is_dir():
        aside.rename(destination)


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

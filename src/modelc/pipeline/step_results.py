"""Where a named step puts its files: checked before it runs; nothing is overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from modelc.errors import BadInput, Where
from modelc.pipeline.imported_weights import SHOWN


def check_room(out: Path, names: Iterable[str]) -> None:
    """Check that files of these names can be put into `out`.

    Raises:
        BadInput: one is there, or `out` is none to write into.
    """
    where = Where(path=str(out))
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise BadInput(f"{there} is a file, not a folder", where=where, hint="choose another -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BadInput("nothing can be written there", where=where, hint="choose another -o")
    if taken := [name for name in dict.fromkeys(names) if (out / name).exists()]:
        shown = ", ".join(taken[:SHOWN]) + (", ..." if len(taken) > SHOWN else "")
        raise BadInput(f"{shown} would be overwritten", where=where, hint="choose another -o")


def hand_over(made: Path, out: Path) -> list[Path]:
    """Move what a step made to where the user wants it; return the files.

    Raises:
        BadInput: as `check_room`.
    """
    names = sorted(path.name for path in made.iterdir() if path.is_file())
    check_room(out, names)
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.move(made / name, out / name)
    return [out / name for name in names]

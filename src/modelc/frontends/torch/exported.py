"""Exported programs with their sizes fixed. Runs in the worker.

What is in an archive is checked before PyTorch sees any of it, and no node is run.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.frontends.torch.archive.rewrite import rewrite
from modelc.frontends.torch.example import Example

_FILE: Final = "program.pt2"


def load(file: Path, dims: Mapping[str, int], scratch: Path | None = None) -> Example:
    """Return the program of a `.pt2` archive.

    Args:
        dims: sizes by the symbol that the program has for them.
        scratch: where a copy, of the archive's size, lies meanwhile; by default the system's folder
            for such files.

    Raises:
        BadInput: it is not what torch.export.save writes, holds what could run code, or sizes are
            missing or don't fit.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        checked = Path(folder) / _FILE
        results = rewrite(file, dims, checked)
        return Example(_read(checked, Where(path=str(file))), (), {}, results)


def fix(program: Any, dims: Mapping[str, int], where: Where) -> Example:
    """Return a program that is in memory, its open sizes fixed.

    Raises:
        BadInput: as `load`; or the program can't be saved.
    """
    import torch

    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / _FILE
        try:
            torch.export.save(program, saved)
        except Exception as error:  # torch raises many types
            traceback.print_exc()
            raise BadInput(
                f"PyTorch can't save the program, which its sizes are fixed in: {error}",
                where=where,
                hint="export it with the sizes that you need, and leave --dim out",
            ) from error
        try:
            return load(saved, dims)
        except BadInput as error:
            raise BadInput(error.message, where=where, hint=error.hint) from error


def _read(checked: Path, where: Where) -> Any:
    import torch

    try:
        return torch.export.load(checked)
    except Exception as error:  # torch raises many types
        traceback.print_exc()
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise BadInput(
            f"PyTorch can't rebuild the program: {type(error).__name__}: {why[-1]}",
            where=where,
            hint="a torch that is older than the one that wrote it may not know its parts; all of "
            "what it says is in export_worker.log",
        ) from error

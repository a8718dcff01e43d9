"""The vendor's compiler on a bundle for Cloud AI 100 that was prepared on a machine without it."""

from __future__ import annotations

import os
from pathlib import Path

from modelc.bundle.read import open_bundle
from modelc.targets.qaic.prepared import (
    BINARY_DIR,
    compile_prepared,
    find_toolchain,
    read_prepared,
)
from modelc.targets.qaic.record import BINARY


def compile_bundle(folder: Path) -> Path:
    """Compile a prepared bundle where it lies, and return the program: qpc/programqpc.bin in it,
    beside qpc.json, which says how it was made. A whole program that is there is kept.

    Raises:
        BadInput: no bundle, or not for this card.
        Damaged: a file of it is not what it was when it was written.
        Missing: the SDK is not installed, or another generation's.
        ToolFailed: the compiler failed.
    """
    files = open_bundle(folder, check_contents=True)
    prepared = read_prepared(files.path)
    sdk = find_toolchain(prepared, os.environ)
    compile_prepared(files.path, prepared, sdk)
    return files.path / BINARY_DIR / BINARY

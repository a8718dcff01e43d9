"""Versions of what a step's result was made with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import modelc
from modelc.errors import Missing


def tool_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the version of each installed package, and modelc's own, by name, sorted.

    Raises:
        Missing: a package is not installed.
    """
    versions = {"modelc": own_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError as error:
            hint = f"install it: pip install {name}"
            raise Missing(f"{name} is not installed", hint=hint) from error
    return dict(sorted(versions.items()))


@cache
def own_version() -> str:
    """modelc's version and a digest of its code, so that no change of a helper goes unnoticed."""
    root = Path(modelc.__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        if not name.startswith("cli/"):  # how things are shown changes no result
            data = path.read_bytes()
            sha.update(f"{name}:{len(data)}:".encode())
            sha.update(data)
    return f"{modelc.__version__}+{sha.hexdigest()[:12]}"

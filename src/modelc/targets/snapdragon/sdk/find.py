"""Finds an installed QAIRT SDK, which modelc drives but neither needs nor ships."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import Missing, Where
from modelc.targets.snapdragon.sdk.toolsets import Version, find_toolset, shown

ROOT_VARIABLES: Final = ("QAIRT_SDK_ROOT", "QNN_SDK_ROOT")
"""Where an SDK may be named; the first that is set counts."""

PYTHON_VARIABLE: Final = "MODELC_SDK_PYTHON"
HOST: Final = "x86_64-linux-clang"
PROGRAMS: Final = f"bin/{HOST}"
LIBRARIES: Final = f"lib/{HOST}"
PYTHON_PACKAGES: Final = "lib/python"
BACKEND: Final = f"{LIBRARIES}/libQnnHtp.so"
DLC_LOADER: Final = f"{LIBRARIES}/libQnnModelDlc.so"
EXTENSIONS: Final = "libQnnHtpNetRunExtensions.so"

_MANIFEST: Final = "sdk.yaml"
_MANIFEST_BYTES: Final = 1 << 16
_NUMBERS: Final = r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,9}))?"


@dataclass(frozen=True)
class Sdk:
    """An SDK whose tools are there.

    Attributes:
        root: the folder that holds its `bin` and `lib`.
        python: what its Python programs are run with; None for what `env` finds.
    """

    root: Path
    version: Version
    python: Path | None = None

    @property
    def release(self) -> str:
        """What a binary depends on, for cache keys and manifests: "QAIRT 2.39.0"."""
        return f"QAIRT {shown(self.version)}"

    def __str__(self) -> str:
        return f"{self.release} in {self.root}"


def find_sdk(environ: Mapping[str, str]) -> Sdk:
    """Return the SDK that the environment names.

    Raises:
        Missing: none is named, or what is there is no SDK, is too old, or lacks a tool.
    """
    variable = next((name for name in ROOT_VARIABLES if environ.get(name)), None)
    if variable is None:
        raise Missing(
            f"no QAIRT SDK: neither {' nor '.join(ROOT_VARIABLES)} is set",
            hint=f"set {ROOT_VARIABLES[0]} to the folder of the SDK, or leave out --toolchain sdk",
        )
    root = Path(environ[variable]).absolute()
    where = Where(path=str(root))
    if not root.is_dir():
        raise Missing(
            f"{variable} names no folder",
            where=where,
            hint="set it to the folder that holds the SDK's bin and lib",
        )
    version = _version(root)
    programs = [f"{PROGRAMS}/{tool}" for tool in find_toolset(version).tools]
    libraries = [BACKEND, DLC_LOADER, f"{LIBRARIES}/{EXTENSIONS}"]
    absent = [name for name in (*programs, *libraries) if not (root / name).is_file()]
    if absent:
        raise Missing(
            f"the SDK of {variable} has no {', '.join(absent)}",
            where=where,
            hint=f"{variable} must be the folder that holds bin and lib of the whole SDK for Linux",
        )
    locked = [name for name in programs if not os.access(root / name, os.X_OK)]
    if locked:
        raise Missing(
            f"{', '.join(locked)} can't be executed", where=where, hint="chmod +x them in the SDK"
        )
    return Sdk(root, version, _python(environ))


def sdk_environment(sdk: Sdk, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the tools need, to be added to `environ`.

    PYTHONPATH is set, not added to: what lies on ours was not made for the SDK's Python.
    """
    values = {name: str(sdk.root) for name in ROOT_VARIABLES}
    values["PYTHONPATH"] = str(sdk.root / PYTHON_PACKAGES)
    for name, folder in (("PATH", PROGRAMS), ("LD_LIBRARY_PATH", LIBRARIES)):
        values[name] = os.pathsep.join(filter(None, (str(sdk.root / folder), environ.get(name))))
    return values


def release_of(root: Path) -> str:
    """Return which release a folder's SDK is, "2.39.0".

    Raises:
        Missing: it doesn't say.
    """
    return shown(_version(root))


def _version(root: Path) -> Version:
    """Read the release from the SDK's manifest, or from the name of its folder."""
    manifest = root / _MANIFEST
    text = ""
    if manifest.is_file():
        with manifest.open("rb") as file:
            text = file.read(_MANIFEST_BYTES).decode(errors="replace")
    found = re.search(rf"^version:\s*[\"']?{_NUMBERS}", text, re.MULTILINE)
    found = found or re.match(_NUMBERS, root.name)
    if found is None:
        raise Missing(
            f"it can't be told which release the SDK is: no version in {_MANIFEST}, nor in the "
            "folder's name",
            where=Where(path=str(root)),
            hint=f"{ROOT_VARIABLES[0]} must be the folder that holds {_MANIFEST}",
        )
    return tuple(int(number) for number in found.groups() if number is not None)


def _python(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(PYTHON_VARIABLE)
    if not named:
        return None
    python = Path(named).absolute()
    if not os.access(python, os.X_OK) or python.is_dir():
        raise Missing(
            f"{PYTHON_VARIABLE} names no program",
            where=Where(path=str(python)),
            hint="set it to a Python that has the packages of the SDK's setup guide",
        )
    return python

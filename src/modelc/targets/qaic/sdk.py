"""Finds the Apps SDK: its compiler, and which generation's command line that takes; and the QNN
SDK, whose tools compile for the card as well."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import Missing, Where
from modelc.targets.snapdragon.sdk.find import release_of

ROOT_VARIABLE: Final = "QAIC_SDK_ROOT"
"""Where the SDK may be named, if it is not in its usual place."""
ROOT: Final = "/opt/qti-aic"
QNN_VARIABLE: Final = "QNN_SDK_ROOT"
COMPILERS: Final = ("qaic-compile", "qaic-exec")

_QNN_HOST: Final = "x86_64-linux-clang"
_QNN_FILES: Final = (
    f"bin/{_QNN_HOST}/qairt-converter",
    f"bin/{_QNN_HOST}/qnn-context-binary-generator",
    f"lib/{_QNN_HOST}/libQnnAic.so",
)
_APPS: Final = "versions/apps.xml"
_LARGEST_TEXT: Final = 1 << 16
_PROBE_SECONDS: Final = 20
_XML_VERSION: Final = re.compile(r"<base_version>\s*([\w.]{1,40})\s*</base_version>")
_SAID_VERSION: Final = re.compile(r"\b(1\.\d{1,3}(?:\.\d{1,6}){0,3})\b")
_PROBES: Final = (("qaic-version-util", "--apps"), ("qaic-util", "-q"))


@dataclass(frozen=True)
class AppsSdk:
    """An installed Apps SDK.

    Attributes:
        compiler: the program to run.
        version: what it says of itself, "1.22.0".
    """

    root: Path
    compiler: Path
    version: str


@dataclass(frozen=True)
class QnnSdk:
    """An installed QNN SDK whose tools are there; `version` is "2.39.0"."""

    root: Path
    version: str


def find_apps_sdk(environ: Mapping[str, str], sdk_version: str | None = None) -> AppsSdk:
    """Return the SDK of this machine.

    Args:
        sdk_version: its version, if it can't be asked for it.

    Raises:
        Missing: there is none, or it doesn't say which version it is.
    """
    root = Path(environ.get(ROOT_VARIABLE) or ROOT)
    programs = [root / "exec" / name for name in COMPILERS]
    compiler = next((path for path in programs if os.access(path, os.X_OK)), None)
    if compiler is None:
        raise Missing(
            f"no compiler for Cloud AI 100: neither {' nor '.join(COMPILERS)} is in {root}/exec",
            where=Where(path=str(root)),
            hint="install the Apps SDK, or name its folder by "
            f"{ROOT_VARIABLE}; or carry the prepared folder to a machine that has it",
        )
    version = sdk_version or _read_version(root) or _ask_version(root)
    if version is None:
        raise Missing(
            "the Apps SDK doesn't say which version it is",
            where=Where(path=str(root)),
            hint="name it by --sdk-version",
        )
    return AppsSdk(root, compiler, version)


def find_qnn_sdk(environ: Mapping[str, str]) -> QnnSdk:
    """Return the QNN SDK that the environment names, with what compiling for the card takes.

    Raises:
        Missing: none is named, or it lacks a tool.
    """
    named = environ.get(QNN_VARIABLE)
    if not named:
        raise Missing(
            f"no QNN SDK: {QNN_VARIABLE} is not set",
            hint=f"set {QNN_VARIABLE} to its folder; or carry the prepared folder to a machine "
            "that has it",
        )
    root = Path(named).absolute()
    if absent := [name for name in _QNN_FILES if not (root / name).is_file()]:
        raise Missing(
            f"the SDK of {QNN_VARIABLE} has no {', '.join(absent)}",
            where=Where(path=str(root)),
            hint="it must be the folder that holds bin and lib of an SDK with Cloud AI 100",
        )
    return QnnSdk(root, release_of(root))


def card_version(sdk: AppsSdk) -> str:
    """Return what -aic-hw-version is for the card of this machine: ai200, or ai100."""
    said = _said(sdk.root / "tools" / "qaic-util", "-q")
    found = re.search(r"FW IMAGE_VARIANT\s*:\s*(\S+)", said)
    return "ai200" if found and "AIC200" in found[1].upper() else "ai100"


def _read_version(root: Path) -> str | None:
    try:
        with (root / _APPS).open("rb") as file:
            text = file.read(_LARGEST_TEXT).decode(errors="replace")
    except OSError:
        return None
    found = _XML_VERSION.search(text)
    return found[1] if found else None


def _ask_version(root: Path) -> str | None:
    for tool, argument in _PROBES:
        found = _SAID_VERSION.search(_said(root / "tools" / tool, argument))
        if found:
            return found[1]
    return None


def _said(program: Path, argument: str) -> str:
    """Return what a tool prints; nothing if it can't be run or takes too long."""
    try:
        done = subprocess.run(
            [program, argument], capture_output=True, timeout=_PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[:_LARGEST_TEXT].decode(errors="replace")

"""A folder with all that compiling a graph for the card takes: carried to any machine with the SDK,
it makes the same binary there.

    model.onnx ...          the graph and its weights
    specializations.json    and the other files of options
    commands.json           what is run, with which options
    compile.sh              runs it without modelc
    qpc/programqpc.bin      what comes of it, beside qpc.json and compiler.log
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from modelc.errors import BadInput, Damaged, Missing, Where
from modelc.files import is_safe_name, write_atomic
from modelc.targets.qaic.execute import Work, compile_once
from modelc.targets.qaic.generations import generation_of
from modelc.targets.qaic.record import qpc_key
from modelc.targets.qaic.sdk import (
    QNN_VARIABLE,
    ROOT,
    ROOT_VARIABLE,
    AppsSdk,
    QnnSdk,
    find_apps_sdk,
    find_qnn_sdk,
)

Toolchain = Literal["apps", "qnn"]

MODEL: Final = "model.onnx"
COMMANDS: Final = "commands.json"
SCRIPT: Final = "compile.sh"
BINARY_DIR: Final = "qpc"
SDK: Final = "@SDK@"
"""Stands for the SDK's folder, in commands and files."""
TEMPLATE: Final = ".in"
"""Ends the name of a file in which the SDK's folder is filled in before the commands run."""
_LARGEST: Final = 1 << 24


@dataclass(frozen=True)
class Prepared:
    """What is run in the folder.

    Attributes:
        sdk_version: of the Apps SDK, which the commands are written for; "" with the QNN tools.
        commands: with paths inside of the folder, or below `SDK`.
        files: of options, name -> text.
        options: what was asked for.
    """

    toolchain: Toolchain
    sdk_version: str
    commands: list[list[str]]
    files: dict[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """Return the files of the folder but the graph, name -> text."""
        commands = {**asdict(self), "files": sorted(self.shipped)}
        return {
            **self.shipped,
            COMMANDS: json.dumps(commands, indent=1, sort_keys=True) + "\n",
            SCRIPT: _script(self),
        }

    @property
    def shipped(self) -> dict[str, str]:
        """The files of options as they lie in the folder."""
        return {f"{n}{TEMPLATE}" if SDK in text else n: text for n, text in self.files.items()}


def read_prepared(folder: Path) -> Prepared:
    """Read back what `texts` gave.

    Raises:
        BadInput: the folder is none that was prepared.
        Damaged: it is not as it was prepared.
    """
    where = Where(path=str(folder / COMMANDS))
    try:
        with (folder / COMMANDS).open("rb") as file:
            document = json.loads(file.read(_LARGEST))
    except OSError as error:
        raise BadInput(
            f"not prepared for Cloud AI 100: {error.strerror}",
            where=where,
            hint="give a bundle that was compiled with --target qaic:...",
        ) from error
    except (ValueError, RecursionError) as error:
        raise Damaged("not JSON", where=where) from error
    try:
        names = document.pop("files")
        if not all(is_safe_name(name) for name in names):
            raise ValueError("names that leave the folder")
        files = {name.removesuffix(TEMPLATE): (folder / name).read_text() for name in names}
        made = Prepared(**document, files=files)
        words = [word for command in made.commands for word in command]
        if made.toolchain not in ("apps", "qnn") or not all(isinstance(w, str) for w in words):
            raise ValueError("no commands")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"not as it was prepared: {error}", where=where) from error
    return made


def find_toolchain(prepared: Prepared, environ: Mapping[str, str]) -> AppsSdk | QnnSdk:
    """Return the installed SDK that the commands are for.

    Raises:
        Missing: there is none, or one of another generation.
    """
    if prepared.toolchain == "qnn":
        return find_qnn_sdk(environ)
    sdk = find_apps_sdk(environ)
    wanted, found = (generation_of(v).version for v in (prepared.sdk_version, sdk.version))
    if wanted != found:
        raise Missing(
            f"the Apps SDK here is {sdk.version}, the commands are for {prepared.sdk_version}",
            where=Where(path=str(sdk.root)),
            hint=f"prepare it again with --sdk-version {sdk.version}",
        )
    return sdk


def compile_prepared(folder: Path, prepared: Prepared, sdk: AppsSdk | QnnSdk) -> None:
    """Run the commands in the folder, unless the binary that they make is there.

    Raises:
        ToolFailed: one failed, or there is no binary.
    """
    root = str(sdk.root)
    for name, text in prepared.files.items():
        if SDK in text:
            write_atomic(folder / name, text.replace(SDK, root).encode())
    commands = [[word.replace(SDK, root) for word in command] for command in prepared.commands]
    version = f"{prepared.toolchain} {sdk.version}"
    key = qpc_key(folder / MODEL, prepared.options, sdk_version=version, files=prepared.files)
    (folder / BINARY_DIR).parent.mkdir(exist_ok=True)
    compile_once(
        Work(commands, folder, folder, folder / BINARY_DIR, key, prepared.options, version)
    )


def _script(prepared: Prepared) -> str:
    if prepared.toolchain == "apps":
        title = f"the Apps SDK {prepared.sdk_version}"
        root = f'sdk="${{{ROOT_VARIABLE}:-{ROOT}}}"'
    else:
        title = "the QNN tools"
        root = f'sdk="${{{QNN_VARIABLE}:?set it to the folder of the QNN SDK}}"'
    program = prepared.commands[0][0].replace(SDK, "$sdk")
    filled = [
        f'sed "s|{SDK}|$sdk|g" {shlex.quote(name)}{TEMPLATE} > {shlex.quote(name)}'
        for name, text in sorted(prepared.files.items())
        if SDK in text
    ]
    lines = [
        "#!/usr/bin/env bash",
        f"# Compiles {MODEL} for Cloud AI 100 with {title}, which is to be on this machine.",
        "set -euo pipefail",
        'cd -- "$(dirname -- "${BASH_SOURCE[0]}")"',
        root,
        f'[ -x "{program}" ] || {{ echo "there is no {program}" >&2; exit 3; }}',
        f"if [ -e {BINARY_DIR}/programqpc.bin ]; then",
        f'    echo "{BINARY_DIR}/programqpc.bin is there already"',
        "    exit",
        "fi",
        f"rm -rf {BINARY_DIR}  # an interrupted compile leaves it without the binary",
        *filled,
        *(" \\\n    ".join(map(_quoted, command)) for command in prepared.commands),
        f'[ -e {BINARY_DIR}/programqpc.bin ] || {{ echo "no binary was written" >&2; exit 1; }}',
    ]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    if SDK not in word:
        return shlex.quote(word)
    before, _, rest = word.partition(SDK)
    return f'{shlex.quote(before) if before else ""}"$sdk"{shlex.quote(rest)}'

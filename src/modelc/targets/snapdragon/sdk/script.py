"""Writes commands as a shell script, to be read and repeated without modelc."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from modelc.targets.snapdragon.sdk.command import Command, output_folders
from modelc.targets.snapdragon.sdk.find import (
    LIBRARIES,
    PROGRAMS,
    PYTHON_PACKAGES,
    PYTHON_VARIABLE,
    ROOT_VARIABLES,
)
from modelc.targets.snapdragon.sdk.options import Argument, InSdk

_ROOT, _OTHER_ROOT = ROOT_VARIABLES
_HEADER = f"""\
#!/usr/bin/env bash
# The runs of the QAIRT SDK's tools that make the context binaries.
# Usage: {_ROOT}=FOLDER bash commands.sh [WORK_FOLDER]; default: the folder of this script.
"""
_START = f"""\
set -euo pipefail

: "${{{_ROOT}:?set it to the folder of the QAIRT SDK}}"
export {_ROOT} {_OTHER_ROOT}="${_ROOT}"
export PYTHONPATH="${_ROOT}/{PYTHON_PACKAGES}"
export PATH="${_ROOT}/{PROGRAMS}${{PATH:+:$PATH}}"
export LD_LIBRARY_PATH="${_ROOT}/{LIBRARIES}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"

cd -- "${{1:-$(dirname -- "${{BASH_SOURCE[0]}}")}}"
"""


def commands_sh(commands: Sequence[Command], notes: str = "") -> str:
    """Return a script that runs commands as `run_commands` does, on any machine with an SDK.

    Args:
        notes: what a reader should know besides which files the work folder must hold.
    """
    folders = " ".join(map(shlex.quote, output_folders(commands)))
    lines = [f"mkdir -p -- {folders}\n"] if folders else []
    header = f"{_HEADER}{_comment(_needed(commands) + notes)}{_START}"
    return "\n".join([header, *lines, *map(_written, commands)])


def _needed(commands: Sequence[Command]) -> str:
    """Return the list of files that the commands read and none of them makes."""
    made = {name for command in commands for name in command.outputs}
    read = dict.fromkeys(name for command in commands for name in command.inputs)
    listed = "".join(f"  {shlex.quote(name)}\n" for name in read if name not in made)
    return f"It needs in the work folder:\n{listed}" if listed else ""


def _comment(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


def _written(command: Command) -> str:
    python = f'${{{PYTHON_VARIABLE}:+"${PYTHON_VARIABLE}"}} ' if command.is_python else ""
    title = f"# {command.step}: {command.graph}".replace("\n", " ")
    return "\n".join([title, python + " \\\n  ".join(_lines(command)), ""])


def _lines(command: Command) -> Iterator[str]:
    """Yield the program, then each option with its values."""
    line = _quoted(command.program)
    for argument in command.arguments:
        if isinstance(argument, str) and argument.startswith("--"):
            yield line
            line = argument
        else:
            line += f" {_quoted(argument)}"
    yield line


def _quoted(argument: Argument) -> str:
    if isinstance(argument, InSdk):
        return f'"${_ROOT}"/{shlex.quote(argument.path)}'
    return shlex.quote(argument)

"""Runs of the SDK's tools as values, which name no machine: paths lie in a work folder or in the
SDK. They are checked together, run one by one, and can be replayed by `script.commands_sh`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from modelc import process
from modelc.errors import BadInput, ToolFailed, Where
from modelc.process import LogMark, ending, run_command
from modelc.targets.snapdragon.sdk.find import PROGRAMS, PYTHON_VARIABLE, Sdk, sdk_environment
from modelc.targets.snapdragon.sdk.options import Argument, InSdk
from modelc.targets.snapdragon.sdk.toolsets import GENERATOR

_SYMPTOMS: Final = (
    (
        ("ModuleNotFoundError", "ImportError"),
        f"the tool is a Python program: set {PYTHON_VARIABLE} to a Python that has the packages of "
        "the SDK's setup guide",
    ),
    (
        ("error while loading shared libraries",),
        "the SDK's bin/check-linux-dependency.sh installs the libraries that it needs",
    ),
)


@dataclass(frozen=True)
class Command:
    """One run of a tool, in the work folder.

    Attributes:
        step, graph: what it belongs to, for messages.
        tool: name of the program.
        arguments: what follows the program.
        inputs, outputs: files in the work folder.
    """

    step: str
    graph: str
    tool: str
    arguments: tuple[Argument, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def program(self) -> InSdk:
        return InSdk(f"{PROGRAMS}/{self.tool}")

    @property
    def is_python(self) -> bool:
        """Whether the program is a Python script; the context binary generator alone is not."""
        return self.tool != GENERATOR

    def argv(self, sdk: Sdk) -> tuple[str, ...]:
        """Return the command line on this machine."""
        python = (str(sdk.python),) if self.is_python and sdk.python else ()
        parts = (self.program, *self.arguments)
        return (*python, *(str(sdk.root / p.path) if isinstance(p, InSdk) else p for p in parts))


def output_folders(commands: Sequence[Command]) -> list[str]:
    """Return the folders that the outputs need, sorted."""
    outputs = (output for command in commands for output in command.outputs)
    return sorted({str(PurePosixPath(output).parent) for output in outputs} - {"."})


def check_commands(commands: Sequence[Command], folder: Path) -> None:
    """Check that every input is there or made by an earlier command, and no output made twice.

    Raises:
        BadInput: says all that is wrong.
    """
    problems, made = [], set[str]()
    for command in commands:
        for name in command.inputs:
            if name not in made and not (folder / name).is_file():
                problems.append(f"{command.step} of {command.graph} needs {name}")
        for name in command.outputs:
            if name in made:
                problems.append(f"{command.step} of {command.graph} would write {name} again")
            made.add(name)
    if problems:
        raise BadInput("; ".join(problems), where=Where(path=str(folder)))


def run_commands(
    commands: Sequence[Command], sdk: Sdk, folder: Path, *, logs: Path, timeout_s: float
) -> None:
    """Run commands one after the other in the work folder; each log is kept in `logs`.

    Args:
        timeout_s: for each.

    Raises:
        BadInput: an input is missing.
        ToolFailed: a tool could not be started, failed, ran out of time, or wrote no output.
    """
    check_commands(commands, folder)
    environment = sdk_environment(sdk, os.environ)
    logs.mkdir(parents=True, exist_ok=True)
    for name in output_folders(commands):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for command in commands:
        log = logs.absolute() / f"{command.step}.{command.graph}.log"
        argv = command.argv(sdk)
        _run(command, process.Command(argv, folder.resolve(), log, timeout_s, environment))


def _run(command: Command, run: process.Command) -> None:
    outputs = [run.cwd / name for name in command.outputs]
    for output in outputs:
        output.unlink(missing_ok=True)  # so that what is there afterwards is this run's
    mark = LogMark(run.log)
    finished = run_command(run)
    absent = [output.name for output in outputs if not output.is_file()]
    if finished.status == 0 and not absent:
        return
    how = f"wrote no {', '.join(absent)}" if finished.status == 0 else ending(finished)
    said = mark.last_words()
    hints = [hint for words, hint in _SYMPTOMS if any(word in said for word in words)]
    raise ToolFailed(
        f"{command.tool} {how}; its last words:\n{said}",
        where=Where(step=command.step, graph=command.graph),
        hint=hints[0] if hints else f"all it said is in {run.log}",
    )

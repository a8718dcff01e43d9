"""Runs the SDK's compiler on what was planned, once: a whole binary of the same key is kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from modelc.errors import ToolFailed, Where
from modelc.files import write_atomic
from modelc.process import Command, LogMark, ending, run_command
from modelc.targets.qaic.qpc import QpcPlan
from modelc.targets.qaic.record import BINARY, RECORD, is_made, qpc_key, write_record
from modelc.targets.qaic.sdk import AppsSdk

LOG: Final = "compiler.log"
TIMEOUT_S: Final = 24 * 3600.0


@dataclass(frozen=True)
class Work:
    """One run of the compiler.

    Attributes:
        commands: one after the other.
        cwd: where they run.
        folder: of its files, its log and the record.
        binary_dir: what the compiler makes; it must not be there before.
        key: of all that the binary depends on.
        options: for the record.
        timeout_s: of each command.
    """

    commands: Sequence[Sequence[str]]
    cwd: Path
    folder: Path
    binary_dir: Path
    key: str
    options: Mapping[str, Any]
    sdk_version: str
    timeout_s: float = TIMEOUT_S


def write_files(plan: QpcPlan) -> None:
    """Write a plan's files into its folder."""
    folder = Path(plan.qpc_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in plan.files.items():
        write_atomic(folder / name, text.encode())


def compile_plan(plan: QpcPlan, sdk: AppsSdk, *, timeout_s: float = TIMEOUT_S) -> Path:
    """Compile a plan with an installed SDK; return the folder of the binary.

    Raises:
        BadInput: the graph or a file that an option names can't be read.
        ToolFailed: the compiler failed, or wrote no binary.
    """
    key = qpc_key(Path(plan.onnx), plan.options, sdk_version=sdk.version, files=plan.files)
    write_files(plan)
    folder = Path(plan.qpc_dir)
    argv = [str(sdk.compiler), *plan.argv[1:]]
    binary_dir = Path(plan.binary_dir)
    compile_once(
        Work([argv], Path.cwd(), folder, binary_dir, key, plan.options, sdk.version, timeout_s)
    )
    return binary_dir


def compile_once(work: Work) -> None:
    """Run the compiler, unless its whole binary is there; an interrupted one is made again.

    Raises:
        ToolFailed: the compiler failed, or wrote no binary.
    """
    if is_made(work.binary_dir, work.folder, work.key):
        return
    (work.folder / RECORD).unlink(missing_ok=True)
    if work.binary_dir.is_dir():
        shutil.rmtree(work.binary_dir)
    log = work.folder.absolute() / LOG
    mark = LogMark(log)
    for argv in work.commands:
        finished = run_command(Command(tuple(argv), work.cwd, log, work.timeout_s))
        if finished.status != 0:
            raise _failed(work, f"{Path(argv[0]).name} {ending(finished)}", mark, log)
    if not (work.binary_dir / BINARY).is_file():
        raise _failed(work, f"the card's compiler wrote no {BINARY}", mark, log)
    write_record(
        work.folder,
        work.key,
        work.options,
        sdk_version=work.sdk_version,
        commands=[[*argv] for argv in work.commands],
    )


def _failed(work: Work, what: str, mark: LogMark, log: Path) -> ToolFailed:
    return ToolFailed(
        f"{what}; its last words:\n{mark.last_words()}",
        where=Where(path=str(work.binary_dir)),
        hint=f"all it said is in {log}",
    )

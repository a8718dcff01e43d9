"""Runs the command line: in a process of its own, or in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENTRY = (sys.executable, "-m", "modelc.cli.main")


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """The one document on stdout; whatever else is there fails the test."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)


def environment(store: Path, changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command that keeps its results in `store`."""
    return {**os.environ, "MODELC_STORE": str(store), "COLUMNS": "200", **(changes or {})}


def modelc(
    *arguments: object, store: Path, stdin: str = "", env: Mapping[str, str] | None = None
) -> Ran:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [*ENTRY, *map(str, arguments)],
        env=environment(store, env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)

"""Engines under test, each in a process of its own, asked in turn: one JSON object per line.

Needs nothing but Python, so that an interpreter without modelc can serve too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Handlers = Mapping[str, Callable[..., Mapping[str, Any]]]


class Worker:
    """A script of this folder, started with `python` and asked by name."""

    def __init__(self, script: str, python: str = sys.executable) -> None:
        path = Path(__file__).parent / script
        self._child = subprocess.Popen(
            [python, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Call one of the worker's handlers.

        Raises:
            RuntimeError: it raised, or has ended.
        """
        assert self._child.stdin and self._child.stdout
        try:
            self._child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(f"{do}: {answer['error']}")
        return answer

    def close(self) -> None:
        assert self._child.stdin and self._child.stdout
        self._child.stdin.close()
        self._child.wait()
        self._child.stdout.close()


def serve(handlers: Handlers) -> None:
    """Answer until stdin ends."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = dict(handlers[request.pop("do")](**request))
        except Exception as error:  # whatever it is, the other end has to know
            answer = {"error": f"{type(error).__name__}: {error}"}
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


def peak_mb() -> float:
    """Most memory ever resident in this process, in MB (2**20 bytes), file pages included."""
    status = Path("/proc/self/status")
    if status.exists():
        rows = status.read_text().splitlines()
        return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM:")) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

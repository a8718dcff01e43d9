"""Waiting for processes that a test has started, and looking whether they live."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def reply(process: subprocess.Popen[str]) -> dict[str, list[Any]]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return dict(json.loads(out))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to it"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"

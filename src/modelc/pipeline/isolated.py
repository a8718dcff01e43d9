"""Runs a step in a child process: its memory is its own, and its crash an error that names it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from modelc.errors import ToolFailed, Where
from modelc.pipeline.step import Step, StepContext
from modelc.pipeline.store import SPACE_HINT
from modelc.process import Finished, LogMark, decode_error, ending, kill_group, leashed


def run_isolated(step: Step, context: StepContext, log: Path) -> float:
    """Run the step's function in a new interpreter and return its peak memory in MB.

    What it prints goes to `log`. The child ends when this process does.

    Raises:
        ModelcError: as the step raised it.
        ToolFailed: it crashed, or raised something else.
    """
    start, mark = time.monotonic(), LogMark(log)
    with log.open("ab") as stream:
        child = subprocess.Popen(
            (sys.executable, "-m", "modelc.pipeline.child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stream,
            start_new_session=True,
        )
    try:
        with leashed(child):
            reply = _converse(child, _job(step, context), context)
    except BaseException:  # whatever ends this wait, Ctrl-C too, must not leave the child behind
        if child.poll() is None:
            kill_group(child)
        raise
    finally:
        child.communicate()
    if "error" in reply:
        raise decode_error(reply["error"], step.name)
    if "peak_mb" not in reply:
        finished = Finished(child.returncode, time.monotonic() - start, timed_out=False)
        what = reply.get("failure") or ending(finished)
        raise ToolFailed(
            f"{what}; its last words:\n{mark.last_words()}",
            where=Where(step=step.name, path=str(log)),
            hint="the log holds all that it printed",
        )
    return float(reply["peak_mb"])


def _job(step: Step, context: StepContext) -> dict[str, Any]:
    return {
        "run": step.run,
        "inputs": {name: str(path) for name, path in context.inputs.items()},
        "options": dict(context.options),
        "sources": {name: str(path.absolute()) for name, path in context.sources.items()},
        "out": str(context.out),
        "scratch": str(context.scratch),
        "partial": str(context.partial),
        "space_hint": SPACE_HINT,
    }


def _converse(
    child: subprocess.Popen[bytes], job: dict[str, Any], context: StepContext
) -> dict[str, Any]:
    """Hand over the job, pass on what the child reports, return its last word ({} if it died)."""
    assert child.stdin and child.stdout
    try:
        child.stdin.write(json.dumps(job).encode() + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        return {}
    for line in child.stdout:
        if not line.endswith(b"\n"):
            break  # it died in the middle of a word
        message: dict[str, Any] = json.loads(line)
        if "progress" in message:
            context.progress(*message["progress"])
        elif "log" in message:
            context.log(message["log"])
        else:
            return message
    return {}

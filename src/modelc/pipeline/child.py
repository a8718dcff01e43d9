"""The other end of `isolated`: `python -m modelc.pipeline.child`, job on stdin, reports on stdout.

One JSON object per line: {"progress": [fraction, message]} and {"log": line} while it works, then
{"peak_mb": ...}, {"error": ...} for a ModelcError or {"failure": ...} for anything else.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

from modelc.errors import ModelcError
from modelc.files import space_needed
from modelc.pipeline.memory import PeakMemory
from modelc.pipeline.step import StepContext, plain, resolve
from modelc.process import encode_error, end_with_parent


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to the log, not between the reports
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        report: dict[str, Any] = {"peak_mb": _run(job, channel)}
    except ModelcError as error:
        report = {"error": encode_error(error)}
    except BaseException as error:  # the parent has no other way to learn what it was
        traceback.print_exc()
        report = {"failure": f"failed with {type(error).__name__}: {error}"}
    _say(channel, report)
    sys.stderr.flush()
    # Vendor libraries crash in their static destructors; the work is done, so skip them.
    os._exit(0)


def _run(job: dict[str, Any], channel: TextIO) -> float:
    out = Path(job["out"])
    context = StepContext(
        inputs={name: Path(path) for name, path in job["inputs"].items()},
        options=plain(job["options"]),
        sources={name: Path(path) for name, path in job["sources"].items()},
        out=out,
        scratch=Path(job["scratch"]),
        partial=Path(job["partial"]),
        progress=lambda fraction, message: _say(channel, {"progress": [fraction, message]}),
        log=lambda line: _say(channel, {"log": line}),
    )
    with PeakMemory() as memory, space_needed(out, job["space_hint"]):
        resolve(job["run"])(context)
    return memory.mb


def _say(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


if __name__ == "__main__":
    main()

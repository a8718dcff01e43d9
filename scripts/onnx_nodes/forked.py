"""Children of this process in place of new ones: as far apart, in a third of the time.

What takes long in a worker is to import ONNX Runtime. It is imported here once; a session is made
in children only, so none inherits anything of another's.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from modelc.errors import ModelcError, ToolFailed, Where
from modelc.passes.pipelines import build_pipeline
from modelc.process import Finished, LogMark, decode_error, encode_error, ending

_FAILED = 70
_SHARED = (
    "onnx.reference",
    "onnxruntime",
    "onnxruntime_qnn",
    *(f"modelc.targets.snapdragon.network.{name}_worker" for name in ("compile", "probe", "run")),
)


def import_for_children() -> None:
    """Import here what would be imported in every child again."""
    for module in _SHARED:
        import_module(module)
    for row in ("network", "htp-network"):
        build_pipeline(row, {})


def in_child(work: Callable[[], Mapping[str, Any]], log: Path, timeout_s: float) -> dict[str, Any]:
    """Return what `work` returns in a child of this process, whose output goes to `log`.

    Raises:
        ModelcError: as `work` raised it.
        ToolFailed: the child crashed or ran out of time.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    result = log.with_suffix(".result.json")
    result.unlink(missing_ok=True)
    mark = LogMark(log)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_child(work, log, result, timeout_s)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    reply = json.loads(result.read_text()) if code == 0 else {}
    if "error" in reply:
        raise decode_error(reply["error"], "")
    if "result" not in reply:
        timed_out = code == -signal.SIGALRM
        ended = ending(Finished(code, timeout_s, timed_out))
        raise ToolFailed(f"{log.stem} {ended}; its last words:\n{mark.last_words()}")
    return dict(reply["result"])


def run_forked(
    module: str,
    job: Mapping[str, Any],
    *,
    workdir: Path,
    timeout_s: float,
    where: Where,
    hint: str = "",
) -> dict[str, Any]:
    """Do what `modelc.process.run_worker` does, in a child of this process."""
    workdir = workdir.resolve()
    handle = import_module(module).handle
    log = workdir / f"{module.rsplit('.', 1)[-1]}.log"

    def work() -> Mapping[str, Any]:
        os.chdir(workdir)
        result: Mapping[str, Any] = handle(dict(job))
        return result

    try:
        return in_child(work, log, timeout_s)
    except ModelcError as error:
        error.where = error.where.at_step(where.step)
        error.hint = error.hint or hint
        raise


def _be_child(
    work: Callable[[], Mapping[str, Any]], log: Path, result: Path, timeout_s: float
) -> None:
    """Work, write the result, and end without the vendor's destructors, some of which crash."""
    code = _FAILED
    try:
        signal.alarm(max(1, int(timeout_s)))
        output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            reply: dict[str, Any] = {"result": dict(work())}
        except ModelcError as error:
            reply = {"error": encode_error(error)}
        result.write_text(json.dumps(reply))
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)

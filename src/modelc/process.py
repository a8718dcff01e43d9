"""Runs vendor code in child processes: with a timeout, a kept log, and crashes turned into errors.

A *worker* is a module of modelc run as `python -m MODULE job.json result.json`. It reads one JSON
job, writes one JSON result, and may print what it likes: its output goes to the log. A worker
reports an expected failure by raising `ModelcError` inside `serve`, and never outlives its parent.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelc import errors
from modelc.errors import ModelcError, ToolFailed, Where

LOG_TAIL_LINES = 12
LOG_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True)
class Command:
    """One run of a tool, as a value: what is started, where, for how long.

    Attributes:
        tied: its stdin is a pipe that closes when this process ends, however it ends, and it is
            going to `end_with_parent`. Otherwise its stdin is empty.
    """

    argv: tuple[str, ...]
    cwd: Path
    log: Path
    timeout_s: float
    env: Mapping[str, str] = field(default_factory=dict)
    tied: bool = False


@dataclass(frozen=True)
class Finished:
    """How a command ended: `status` is the exit status, or minus the signal that killed it."""

    status: int
    seconds: float
    timed_out: bool


class Leash:
    """Ends, from another thread, the children that some threads are waiting for.

    Their wait ends with KeyboardInterrupt, so that none takes its child's death for a result.
    """

    def __init__(self) -> None:
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put the children that this thread starts meanwhile on the leash."""
        token = _LEASH.set(self)
        try:
            yield
        finally:
            _LEASH.reset(token)

    def end(self) -> None:
        """Kill the children that live, and those still to come at once."""
        with self._lock:
            self._ended = True
            for child in self._children:
                _kill_living(child)

    @contextmanager
    def holding(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """Have this child on the leash meanwhile.

        Raises:
            KeyboardInterrupt: the leash was ended.
        """
        with self._lock:
            self._children.add(child)
            if self._ended:
                _kill_living(child)
        try:
            yield
        finally:
            with self._lock:
                self._children.discard(child)
                ended = self._ended
        if ended:
            raise KeyboardInterrupt


_LEASH: ContextVar[Leash | None] = ContextVar("leash", default=None)


def leashed(child: subprocess.Popen[bytes]) -> AbstractContextManager[None]:
    """Have a child on this thread's leash meanwhile, if it has one."""
    leash = _LEASH.get()
    return leash.holding(child) if leash else nullcontext()


class LogMark:
    """A place in a log, to read later what was written after it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._start = log.stat().st_size if log.exists() else 0

    def text(self) -> str:
        """Return all that was written since."""
        return self._read(self._start)

    def last_words(self) -> str:
        """Return the last lines written since, indented."""
        size = self._log.stat().st_size if self._log.exists() else 0
        return last_words(self._read(max(self._start, size - LOG_TAIL_BYTES)))

    def _read(self, start: int) -> str:
        if not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")


def last_words(text: str) -> str:
    """Return the last lines of what a tool wrote, indented."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:]) or "  | (nothing)"


def run_command(command: Command) -> Finished:
    """Run a command to its end; stdout and stderr go to its log. Never raises for a failed exit.

    Raises:
        ToolFailed: the program could not be started.
    """
    start = time.monotonic()
    with command.log.open("ab") as log:
        try:
            child = subprocess.Popen(
                command.argv,
                cwd=command.cwd,
                env={**os.environ, **command.env},
                stdin=subprocess.PIPE if command.tied else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolFailed(f"{command.argv[0]} could not be started: {error}") from error
        timed_out = False
        try:
            with leashed(child):
                child.wait(command.timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            if child.poll() is None:
                kill_group(child)
            if child.stdin is not None:
                child.stdin.close()
    return Finished(child.returncode, time.monotonic() - start, timed_out)


def run_worker(
    module: str,
    job: Mapping[str, Any],
    *,
    workdir: Path,
    timeout_s: float,
    where: Where,
    hint: str = "",
) -> dict[str, Any]:
    """Run a worker module on a JSON job in `workdir` and return its JSON result.

    The log of all jobs stays in `workdir/<module's last name>.log`. `hint` is shown if the worker
    crashes or runs out of time.

    Raises:
        ModelcError: as the worker raised it, with the same exit status.
        ToolFailed: the worker crashed or ran out of time.
    """
    stem = module.rsplit(".", 1)[-1]
    workdir = workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    log = workdir / f"{stem}.log"
    mark = LogMark(log)
    with tempfile.TemporaryDirectory(prefix="job-", dir=workdir) as scratch:
        job_path, result_path = Path(scratch, "job.json"), Path(scratch, "result.json")
        job_path.write_text(json.dumps(job))
        argv = (sys.executable, "-m", module, str(job_path), str(result_path))
        finished = run_command(Command(argv, workdir, log, timeout_s, tied=True))
        reply = json.loads(result_path.read_text()) if result_path.exists() else {}
    if "error" in reply:
        raise decode_error(reply["error"], where.step)
    if finished.status != 0 or "result" not in reply:
        raise ToolFailed(
            f"{stem} {ending(finished)}; its last words:\n{mark.last_words()}",
            where=where,
            hint=hint,
        )
    return dict(reply["result"])


def serve(handle: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Be a worker: read the job named on the command line, write the result or the error."""
    job_path, result_path = Path(sys.argv[1]), Path(sys.argv[2])
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        reply: dict[str, Any] = {"result": dict(handle(json.loads(job_path.read_text())))}
    except ModelcError as error:
        reply = {"error": encode_error(error)}
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        full = ModelcError(
            "no space left for temporary files",
            where=Where(path=str(Path.cwd())),
            hint="free some, or set TMPDIR to a folder on another disk",
        )
        reply = {"error": encode_error(full)}
    partial = result_path.with_suffix(".part")
    partial.write_text(json.dumps(reply))
    partial.replace(result_path)
    sys.stdout.flush()
    sys.stderr.flush()
    # Vendor libraries crash in their static destructors; the result is safe, so skip them.
    os._exit(0)


def encode_error(error: ModelcError) -> dict[str, Any]:
    """Return the JSON form in which a child hands an error to its parent."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "where": asdict(error.where),
    }


def decode_error(form: Mapping[str, Any], step: str) -> ModelcError:
    """Return the error that a child handed over, placed in `step` if it named none."""
    kind: type[ModelcError] = getattr(errors, form["kind"])
    place = Where(**form["where"]).at_step(step)
    return kind(form["message"], where=place, hint=form["hint"])


def end_with_parent() -> None:
    """End this process when its parent does: then our stdin, a pipe that it holds, is closed.

    A parent that is killed can't kill us. The vendor's libraries release Python's lock while they
    work, so a thread that waits here gets its turn.
    """
    sys.stdin.read()
    os._exit(1)


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ending(finished: Finished) -> str:
    """Say in words how a command that failed ended."""
    if finished.timed_out:
        return f"was stopped after {finished.seconds:.0f} s"
    if finished.status < 0:
        return f"crashed with {signal.Signals(-finished.status).name}"
    return f"failed with exit status {finished.status}"


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child that was started in a session of its own, with all that it started."""
    if hasattr(os, "killpg"):
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


def _kill_living(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with suppress(ProcessLookupError):  # its own thread was quicker to see it end
            kill_group(child)

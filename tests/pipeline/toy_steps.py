"""Steps small enough to watch; imported by name, in this process and in children."""

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from modelc.errors import BadInput, Where
from modelc.files import write_atomic
from modelc.hashing import digest
from modelc.pipeline.step import StepContext
from modelc.process import Command, run_command


def count(context: StepContext, name: str) -> None:
    """Leave a mark for each run, outside the store."""
    if folder := os.environ.get("TOY_RUNS"):
        descriptor = os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, b"x")
        os.close(descriptor)


def read(context: StepContext) -> None:
    count(context, "read")
    (context.out / "text").write_bytes(context.source.read_bytes())


def upper(context: StepContext) -> None:
    count(context, "upper")
    context.progress(0.5, "half")
    context.log("upper at work")
    text = (context.inputs["read"] / "text").read_text()
    folder = context.out / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "text").write_text(text.upper() * context.options.get("times", 1))
    (context.scratch / "notes").write_text("not kept")


def join(context: StepContext) -> None:
    count(context, "join")
    texts = [next(path.rglob("text")).read_text() for path in context.inputs.values()]
    (context.out / "text").write_text("|".join(texts))


def slow(context: StepContext) -> None:
    count(context, "slow")
    (context.out / "half").write_text("half")
    time.sleep(context.options["seconds"])
    (context.out / "text").write_text("done")


def hang_once(context: StepContext) -> None:
    """Hang until killed the first time, work the second."""
    flag = Path(os.environ["TOY_RUNS"], "hung")
    (context.out / "text").write_text("half")
    if not flag.exists():
        flag.write_text(str(os.getpid()))
        time.sleep(600)
    (context.out / "text").write_text("whole")


def in_parts(context: StepContext) -> None:
    """Make three parts, each once, and hang or fail before the last the first time."""
    parts = [context.partial / name for name in ("one", "two", "three")]
    for part in parts:
        if part.exists():
            continue
        flag = Path(os.environ["TOY_RUNS"], "hung")
        if part.name == "three" and not flag.exists():
            write_atomic(flag, str(os.getpid()).encode())
            if context.options.get("fail"):
                raise BadInput("before the last")
            time.sleep(600)
        count(context, part.name)
        write_atomic(part, part.name.encode())
    (context.out / "text").write_text(" ".join(part.read_text() for part in parts))


def allocate(context: StepContext) -> None:
    block = bytearray(context.options["mb"] << 20)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    (context.out / "pid").write_text(str(os.getpid()))


def crash(context: StepContext) -> None:
    print("about to crash", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse(context: StepContext) -> None:
    raise BadInput("no such thing", where=Where(graph="g", path="p"), hint="try another")


def bug(context: StepContext) -> None:
    raise KeyError("oops")


def fill_disk(context: StepContext) -> None:
    (context.out / "big").write_bytes(b"x" * (context.options["mb"] << 20))


def edit_source(context: StepContext) -> None:
    context.source.write_text("edited while it was read")


@dataclass
class Watch:
    """What runs in this process now, and the most that ever did at once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    running: dict[str, int] = field(default_factory=dict)
    most: int = 0
    heaviest_together: int = 0


WATCH = Watch()


def node(context: StepContext) -> None:
    """Hash what is read, slowly; watched. Options: name, memory, ms."""
    options, name = context.options, context.options["name"]
    count(context, name)
    with WATCH.lock:
        WATCH.running[name] = options["memory"]
        WATCH.most = max(WATCH.most, len(WATCH.running))
        if len(WATCH.running) > 1:
            together = sum(WATCH.running.values())
            WATCH.heaviest_together = max(WATCH.heaviest_together, together)
    time.sleep(options["ms"] / 1000)
    read = {source: (path / "text").read_text() for source, path in context.inputs.items()}
    (context.out / "text").write_text(digest([name, options["ms"], read]))
    with WATCH.lock:
        del WATCH.running[name]


def await_flag(context: StepContext) -> None:
    """Raise `flag` if one is named, wait for `until` if one is named, then fail if told to."""
    folder, options = Path(os.environ["TOY_RUNS"]), context.options
    count(context, options["name"])
    if flag := options.get("flag"):
        (folder / flag).touch()
    while (until := options.get("until")) and not (folder / until).exists():
        time.sleep(0.01)
    if options.get("fail"):
        raise BadInput(options["name"])
    (context.out / "text").write_text("whole")


def command(context: StepContext) -> None:
    """Wait for a child that notes its process id, holds memory and sleeps. Options: mb, seconds."""
    options = context.options
    pid = Path(os.environ["TOY_RUNS"], f"pid.{options['name']}")
    code = (
        "import os, pathlib, sys, threading, time\n"
        "def end(): sys.stdin.read(); os._exit(1)\n"
        "threading.Thread(target=end, daemon=True).start()\n"
        f"block = b'x' * ({options['mb']} << 20)\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\n"
        f"time.sleep({options['seconds']})"
    )
    argv, log = (sys.executable, "-c", code), context.scratch / "log"
    finished = run_command(Command(argv, context.scratch, log, 600, tied=True))
    (context.out / "text").write_text(str(finished.status))

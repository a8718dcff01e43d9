"""Steps small enough to watch; imported by name, in this process and in children."""

import os
import signal
import time
from pathlib import Path

from modelc.errors import BadInput, Where
from modelc.pipeline.step import StepContext


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

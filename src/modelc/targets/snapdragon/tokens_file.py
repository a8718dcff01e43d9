"""Tokens on their way from a worker to its parent while it still runs: one per line of a file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelc.targets.runtime import OnToken

POLL_S = 0.05


class TokenWriter:
    """The worker's end."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def __call__(self, token: int) -> None:
        with self._path.open("a") as file:
            file.write(f"{token}\n")


@contextmanager
def follow(path: Path, on_token: OnToken | None) -> Iterator[None]:
    """The parent's end: call `on_token`, in another thread, for every token while inside."""
    path.unlink(missing_ok=True)
    path.touch()
    if on_token is None:
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, on_token, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(path: Path, on_token: OnToken, done: threading.Event) -> None:
    with path.open() as file:
        partial = ""
        while True:
            finished = done.is_set()  # before the last read, so that nothing is missed
            partial += file.read()
            *lines, partial = partial.split("\n")
            for line in lines:
                on_token(int(line))
            if finished:
                return
            done.wait(POLL_S)

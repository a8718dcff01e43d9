"""Live progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelc.pipeline.events import Event


@contextmanager
def watch(quiet: bool) -> Iterator[Callable[[Event], None]]:
    """Show steps as they run; on a terminal the running one moves."""
    from rich.console import Console

    from modelc.pipeline.events import StepFinished, StepProgress, StepStarted, StepWaiting, Warned

    console = Console(stderr=True, highlight=False)
    with console.status("starting") as status:

        def show(event: Event) -> None:
            if isinstance(event, StepStarted):
                status.update(f"[{event.index}/{event.count}] {event.name}")
            elif isinstance(event, StepProgress):
                status.update(f"{event.name} {event.fraction:.0%} {event.message}")
            elif isinstance(event, StepWaiting):
                status.update(f"{event.name}: another process is making it")
            elif isinstance(event, Warned):
                text = f"warning: {event.name}: {event.message}"
                console.print(text, markup=False, soft_wrap=True)
            elif isinstance(event, StepFinished) and not quiet:
                result = event.result
                console.print(f"{result.status:>6} {result.name} {result.seconds:.2f} s")

        yield show


@contextmanager
def counter(label: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how many of how many are done, on a terminal."""
    from rich.console import Console

    with Console(stderr=True).status(label) as status:
        yield lambda done, total: None if quiet else status.update(f"{label}: {done} of {total}")

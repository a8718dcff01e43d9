"""Live progress on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelc.pipeline.events import Event


class RunningSteps:
    """What a terminal shows of the steps that run now: a line each, in the order they started."""

    def __init__(self) -> None:
        self._titles: dict[str, str] = {}
        self._doing: dict[str, str] = {}

    def note(self, event: Event) -> None:
        """Take in what an execution tells."""
        from modelc.pipeline import events

        match event:
            case events.StepStarted(name, index, count):
                self._titles[name] = f"[{index}/{count}] {name}"
            case events.StepProgress(name, fraction, message):
                self._doing[name] = f"{fraction:.0%} {message}"
            case events.StepWaiting(name):
                self._doing[name] = "another process is making it"
            case events.StepFinished(events.StepResult(name=name)) | events.StepFailed(name):
                self._titles.pop(name, None)
                self._doing.pop(name, None)

    def __str__(self) -> str:
        lines = (f"{title} {self._doing.get(name, '')}" for name, title in self._titles.items())
        return "\n  ".join(map(str.rstrip, lines))  # the first line follows the spinner


@contextmanager
def watch(quiet: bool) -> Iterator[Callable[[Event], None]]:
    """Show steps as they run; on a terminal the running ones move."""
    from rich.console import Console
    from rich.text import Text

    from modelc.pipeline.events import StepFailed, StepFinished, Warned

    console, running = Console(stderr=True, highlight=False), RunningSteps()

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    with console.status("starting") as status:

        def show(event: Event) -> None:
            running.note(event)
            status.update(Text(str(running)))
            if isinstance(event, Warned):
                say(f"warning: {event.name}: {event.message}")
            elif isinstance(event, StepFailed):
                others = ", ".join(event.running)
                say(f"failed {event.name}; waiting for {others} to end (Ctrl-C stops them)")
            elif isinstance(event, StepFinished) and not quiet:
                result = event.result
                say(f"{result.status:>6} {result.name} {result.seconds:.2f} s")

        yield show


@contextmanager
def counter(label: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how many of how many are done, on a terminal."""
    from rich.console import Console

    with Console(stderr=True).status(label) as status:
        yield lambda done, total: None if quiet else status.update(f"{label}: {done} of {total}")

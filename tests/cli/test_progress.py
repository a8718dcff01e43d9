"""What is shown of steps that run beside each other."""

import pytest

from modelc.cli.progress import RunningSteps, watch
from modelc.pipeline.events import (
    StepFailed,
    StepFinished,
    StepProgress,
    StepResult,
    StepStarted,
    StepWaiting,
    Warned,
)
from modelc.pipeline.fingerprint import Fingerprint


def finished(name: str) -> StepFinished:
    print_ = Fingerprint(name, "m:f", 1, {}, {}, {}, {})
    return StepFinished(StepResult(name, "ran", 1.5, 9.0, print_, None))


def test_a_line_for_each_running_step() -> None:
    running = RunningSteps()
    for event in (
        StepStarted("quantize.1", 1, 9),
        StepStarted("quantize.2", 2, 9),
        StepProgress("quantize.1", 0.4, "layer 3"),
    ):
        running.note(event)
    assert str(running) == "[1/9] quantize.1 40% layer 3\n  [2/9] quantize.2"
    running.note(finished("quantize.1"))
    running.note(StepWaiting("quantize.2"))
    assert str(running) == "[2/9] quantize.2 another process is making it"
    running.note(StepFailed("quantize.2", "why", ("other",)))
    assert str(running) == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    with watch(quiet) as show:
        show(StepStarted("lower[1]", 1, 2))
        show(StepProgress("lower[1]", 0.5, "half"))
        show(Warned("lower[1]", "made again"))
        show(finished("lower[1]"))
        show(StepFailed("verify", "why", ("a", "b")))
    shown = capsys.readouterr()
    ran = [] if quiet else ["   ran lower[1] 1.50 s"]
    assert shown.err.splitlines() == [
        "warning: lower[1]: made again",
        *ran,
        "failed verify; waiting for a, b to end (Ctrl-C stops them)",
    ]
    assert shown.out == ""

"""Errors that a user can act on: what happened, where, and what to do.

Every failure that modelc expects is a `ModelcError`; the command line renders it in one place and
exits with its `exit_code`. Anything else that reaches the top is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar


@dataclass(frozen=True)
class Where:
    """The place an error belongs to; empty fields are not shown."""

    step: str = ""
    graph: str = ""
    module: str = ""
    path: str = ""

    def at_step(self, step: str) -> Where:
        """The same place, in `step` if it names none."""
        return self if self.step else replace(self, step=step)

    def __str__(self) -> str:
        shown = (("step", self.step), ("graph", self.graph), ("module", self.module))
        parts = [f"{label} {value}" for label, value in shown if value]
        return ", ".join([*parts, self.path] if self.path else parts)


class ModelcError(Exception):
    """The work failed (exit status 1)."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, where: Where | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where or Where()
        self.hint = hint

    def __str__(self) -> str:
        place = str(self.where)
        lines = [self.message + (f" ({place})" if place else "")]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class BadInput(ModelcError):
    """Wrong usage or unusable input (exit status 2)."""

    exit_code = 2


class Missing(ModelcError):
    """A tool, library or device that the work needs is not here (exit status 3).

    `report` is what was done nevertheless, if the work was a compile.
    """

    exit_code = 3
    report: object = None


class BelowThreshold(ModelcError):
    """Verification fell below the recipe's threshold (exit status 4).

    `report` is what was done and found nevertheless, if the work was a compile.
    """

    exit_code = 4
    report: object = None


class ToolFailed(ModelcError):
    """A child process failed, crashed or ran out of time (exit status 1)."""


class Damaged(ModelcError):
    """A file in the store or in a bundle is not what its record says (exit status 1)."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return a hint that names the known names closest to `name`."""
    options = sorted(known)
    close = difflib.get_close_matches(name.lower(), options, n=count, cutoff=0.4)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(options)}"

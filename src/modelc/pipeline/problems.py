"""What is wrong with a plan, gathered to be told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from modelc.decoder.config import DecoderConfig
from modelc.errors import BadInput, Where

Made = TypeVar("Made")
Problem = tuple[str, str]
"""What is wrong, and what to do about it."""


def experts_problem(config: DecoderConfig, target: str) -> Problem | None:
    """Return what is wrong with a mixture of experts where graphs are static."""
    if config.experts is None:
        return None
    what = f"{config.architecture} is a mixture of experts, which isn't built for {target} yet"
    return what, "compile it for --target cpu"


class Problems:
    """Grows while a plan is checked."""

    def __init__(self, found: Iterable[Problem] = ()) -> None:
        self._found = [(what, hint, Where()) for what, hint in found]

    def attempt(self, make: Callable[[], Made]) -> Made | None:
        """Return what `make` does; if it raises BadInput, keep that for later."""
        try:
            return make()
        except BadInput as error:
            self._found.append((error.message, error.hint, error.where))
            return None

    def tell(self) -> None:
        """Raise what was found, if anything was.

        Raises:
            BadInput: says all of it.
        """
        if not self._found:
            return
        message, _, where = self._found[0]
        if len(self._found) > 1:
            lines = [
                f"  - {what}{f' ({place})' if str(place) else ''}" for what, _, place in self._found
            ]
            message, where = "\n".join(("the plan is not sound:", *lines)), Where()
        hints = dict.fromkeys(hint for _, hint, _ in self._found if hint)
        raise BadInput(message, where=where, hint="; ".join(hints))

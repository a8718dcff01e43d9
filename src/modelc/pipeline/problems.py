"""What is wrong with a plan, gathered to be told at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from modelc.errors import BadInput

Problem = tuple[str, str]
"""What is wrong, and what to do about it."""


class Problems:
    """Grows while a plan is checked."""

    def __init__(self, found: Iterable[Problem] = ()) -> None:
        self._found = list(found)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Keep a BadInput for later; what comes after it in the block doesn't happen."""
        try:
            yield
        except BadInput as error:
            self._found.append((error.message, error.hint))

    def tell(self) -> None:
        """Raise what was found, if anything was.

        Raises:
            BadInput: says all of it.
        """
        if not self._found:
            return
        listed = "\n".join(f"  - {what}" for what, _ in self._found)
        message = f"the plan is not sound:\n{listed}" if len(self._found) > 1 else self._found[0][0]
        raise BadInput(message, hint="; ".join(dict.fromkeys(h for _, h in self._found if h)))

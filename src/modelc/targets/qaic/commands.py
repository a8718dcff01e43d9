"""Command lines: a generation's order of arguments, filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SLOT = re.compile(r"\{(\w+)\}")


def fill(order: Sequence[str], slots: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the arguments: what stands in `order` as it is, a name in braces replaced.

    A slot that `slots` doesn't have is left out.
    """
    argv: list[str] = []
    for item in order:
        slot = _SLOT.fullmatch(item)
        argv.extend(slots.get(slot[1], ()) if slot else (item,))
    return argv

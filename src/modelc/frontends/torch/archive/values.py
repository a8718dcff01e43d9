"""Values of an archive's JSON: each is taken with its type and its limits, or refused."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from modelc.errors import BadInput

MOST: Final = 1 << 20
"""Items in one list or object."""

LARGEST: Final = (1 << 63) - 1

IDENTIFIER: Final = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]{0,999}")
QUALIFIED: Final = re.compile(r"(?:(?!__)[A-Za-z0-9_-]{1,999}\.){0,99}(?!__)[A-Za-z0-9_-]{1,999}")
"""The path of a weight in its module."""
LITERAL: Final = re.compile(r"[A-Za-z0-9_ .,>-]{0,999}")
"""A text that an operator takes, such as `tanh` or `bij,bjk->bik`."""
PRINTABLE: Final = re.compile(r"[ -~]{0,9999}")


def refused(what: str, found: object) -> BadInput:
    """Return the error (not raised) for a part of a program that is not as it must be."""
    shown = repr(found)
    return BadInput(
        f"the exported program has {shown if len(shown) <= 80 else shown[:77] + '...'} as {what}",
        hint="it is damaged, was not written by torch.export.save, or holds what modelc doesn't "
        "read; if you trust it, write a function that returns torch.export.load(...), and give "
        "FILE.py:FUNCTION",
    )


def mapping(value: Any, what: str) -> dict[str, Any]:
    """Return an object of any keys."""
    if not isinstance(value, dict) or len(value) > MOST:
        raise refused(what, value)
    return value


def members(value: Any, what: str, *known: str) -> dict[str, Any]:
    """Return an object with these keys and no other: what is not known may change what is meant.

    Of a key that is missing the value is None.
    """
    found = mapping(value, what)
    if strange := [key for key in found if key not in known and found[key] not in (None, {}, [])]:
        raise refused(f"a member of {what}", strange[0])
    return {key: found.get(key) for key in known}


def union(value: Any, what: str, kinds: Collection[str]) -> tuple[str, Any]:
    """Return the one key of an object, which is one of `kinds`, and what it holds."""
    found = mapping(value, what)
    if len(found) != 1 or (kind := next(iter(found))) not in kinds:
        raise refused(what, value)
    return kind, found[kind]


def items(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST:
        raise refused(what, value)
    return value


def text(value: Any, what: str, pattern: re.Pattern[str] = IDENTIFIER) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise refused(what, value)
    return value


def whole(value: Any, what: str, low: int = -LARGEST, high: int = LARGEST) -> int:
    if type(value) is not int or not low <= value <= high:
        raise refused(what, value)
    return value


def number(value: Any, what: str) -> float | str:
    """Return a float as torch writes it: those that JSON doesn't know are texts."""
    if value in ("Infinity", "-Infinity", "NaN"):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(what, value)
    if isinstance(value, int):
        return float(whole(value, what))
    if value != value or abs(value) == float("inf"):
        raise refused(what, value)  # no JSON; json.loads takes it all the same
    return value


def truth(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise refused(what, value)
    return value


def one_of(value: Any, what: str, options: Collection[Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str) or value not in options:
        raise refused(what, value)
    return value

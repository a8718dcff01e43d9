"""Typed, range-checked access to the settings of a file from strangers (GGUF metadata, JSON)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from modelc.errors import BadInput, Where

T = TypeVar("T")

MAX_JSON_BYTES = 1 << 28
MAX_LIST = 1 << 20


class Fields:
    """Settings by key; null counts as absent. `prefix` goes before every key.

    Every getter raises BadInput, naming key and file, for a wrong type or a value out of range,
    and for an absent key unless a default is given.
    """

    def __init__(self, values: Mapping[str, Any], path: Path, prefix: str = "") -> None:
        self.values = values
        self.path = path
        self.prefix = prefix

    def under(self, prefix: str) -> Fields:
        return Fields(self.values, self.path, self.prefix + prefix)

    def has(self, key: str) -> bool:
        return self.values.get(self.prefix + key) is not None

    def keys(self) -> tuple[str, ...]:
        """Return the keys under the prefix, without it, sorted."""
        width = len(self.prefix)
        return tuple(sorted(key[width:] for key in self.values if key.startswith(self.prefix)))

    def integer(
        self, key: str, default: int | None = None, *, low: int = 0, high: int = 1 << 31
    ) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if not is_number(value):
            raise self.bad(key, "a finite number")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return self.number(key) if self.has(key) else None

    def boolean(self, key: str, default: bool | None = None) -> bool:
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.bad(key, "text")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        value = self._get(key, None)
        if not isinstance(value, list) or len(value) > MAX_LIST or not all(map(is_number, value)):
            raise self.bad(key, "a list of finite numbers")
        return tuple(map(float, value))

    def integers(self, key: str, default: list[int] | None = None) -> tuple[int, ...]:
        value = self._get(key, default)
        whole = isinstance(value, list) and len(value) <= MAX_LIST
        if not whole or not all(type(item) is int and 0 <= item <= 1 << 31 for item in value):
            raise self.bad(key, "a list of integers from 0")
        return tuple(value)

    def texts(self, key: str) -> list[str]:
        value = self._get(key, None)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.bad(key, "a list of texts")
        return value

    def choice(self, key: str, options: Mapping[str, T], default: str | None = None) -> T:
        """Return what `options` says of a text; anything else is refused."""
        name = self.text(key, default)
        if name not in options:
            raise self.bad(key, f"one of {', '.join(options)}")
        return options[name]

    def only(self, known: Iterable[str]) -> None:
        """Refuse keys (under the prefix) that are not known: they may change what is computed."""
        unknown = [key for key in self.keys() if key not in set(known) and self.has(key)]
        if unknown:
            raise BadInput(
                f"unknown setting {self.prefix}{unknown[0]}",
                where=Where(path=str(self.path)),
                hint="it may change what the model computes, so it is not ignored",
            )

    def bad(self, key: str, expected: str) -> BadInput:
        """Return (not raise) the error for a key whose value is not what was expected."""
        shown = repr(self.values.get(self.prefix + key))
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return BadInput(
            f"{self.prefix}{key} is {shown}",
            where=Where(path=str(self.path)),
            hint=f"it must be {expected}",
        )

    def _get(self, key: str, default: Any) -> Any:
        value = self.values.get(self.prefix + key)
        if value is not None:
            return value
        if default is None:
            raise BadInput(
                f"{self.prefix}{key} is missing",
                where=Where(path=str(self.path)),
                hint="the file is incomplete, or was written by a tool that modelc doesn't know",
            )
        return default


def is_number(value: Any) -> bool:
    """True for an int or float (not a bool) that is finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def read_text(path: Path, hint: str) -> str:
    """Return a file's text; BadInput if it is absent, too large or not UTF-8."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise BadInput("the file is too large", where=Where(path=str(path)), hint=hint)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{path.name} can't be read: {error.strerror}", where=Where(path=str(path)), hint=hint
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput("the file is not UTF-8", where=Where(path=str(path)), hint=hint) from error


def parse_json(text: str | bytes, path: Path) -> Fields:
    """Parse a JSON object from a file; BadInput if it is anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"not valid JSON: {error}",
            where=Where(path=str(path)),
            hint="the file is damaged or only partly downloaded",
        ) from error
    if not isinstance(document, dict):
        raise BadInput("not a JSON object", where=Where(path=str(path)))
    return Fields(document, path)

"""The provider's profile: what it measured in each run, one row of a CSV each."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import ToolFailed, Where

MAX_BYTES: Final = 1 << 30

_COLUMNS: Final = ("Message", "Time", "Unit of Measurement", "Event Identifier")
_OPERATOR: Final = re.compile(r"(?:(.*?):?)?OpId_\d+ \(cycles\)")
_TOTAL: Final = "Accelerator (execute) time (cycles)"


@dataclass(frozen=True)
class Event:
    """What was measured of an operator, or of a whole graph.

    Attributes:
        operator: its name in the QNN graph; "Input" and "Output" are what moves tensors in and
            out, "" what the compiler put in; None for a whole graph.
    """

    operator: str | None
    cycles: int


def read_events(path: Path) -> list[Event]:
    """Return what a profile says in cycles.

    Raises:
        ToolFailed: it is none.
    """
    where = Where(path=str(path))
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ToolFailed("the profile is too large", where=where, hint="profile fewer runs")
        with path.open(encoding="utf-8", errors="replace", newline="") as stream:
            return list(_events(csv.DictReader(stream)))
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise ToolFailed(f"the provider left no profile: {error}", where=where) from error


def _events(rows: csv.DictReader[str]) -> Iterator[Event]:
    if missing := [column for column in _COLUMNS if column not in (rows.fieldnames or ())]:
        raise ValueError(f"it has no column {missing[0]!r}")
    for row in rows:
        name = row["Event Identifier"]
        if row["Unit of Measurement"] != "CYCLES":
            continue
        if row["Message"] == "NODE" and (operator := _OPERATOR.fullmatch(name)):
            yield Event((operator.group(1) or "").rstrip(), int(row["Time"]))
        elif name == _TOTAL:
            yield Event(None, int(row["Time"]))

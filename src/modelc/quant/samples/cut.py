"""Sequences of one length out of a long text, or out of rows that are given apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from modelc.errors import BadInput

T = TypeVar("T")


def cut_batches(
    token_ids: Sequence[int], samples: int, sequence_length: int, first: int | None = None
) -> list[list[int]]:
    """Cut `samples` sequences out of a text, evenly spread over it.

    Args:
        first: a token to begin every sequence with (beginning of text), within its length.

    Raises:
        BadInput: the text is shorter than one sequence.
    """
    start = [] if first is None else [first]
    length = sequence_length - len(start)
    room = len(token_ids) - length
    if length < 1 or room < 0:
        raise BadInput(
            f"a calibration text of {len(token_ids)} tokens has no sequence of {sequence_length}",
            hint="give a longer text or shorter sequences",
        )
    count = min(samples, room // length + 1)  # more would only overlap
    offsets = [room * index // max(count - 1, 1) for index in range(count)]
    return [[*start, *token_ids[offset : offset + length]] for offset in offsets]


def spread(rows: Sequence[T], count: int) -> list[T]:
    """Return at most `count` of the rows, evenly spread, in their order."""
    count = min(count, len(rows))
    last = len(rows) - 1
    return [rows[last * index // max(count - 1, 1)] for index in range(count)]

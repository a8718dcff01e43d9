"""JSON lines: a string, or an object with a text, a conversation or token ids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where
from modelc.quant.samples.row import Conversation, Row, check_ids

TEXTS: Final = ("text", "content", "prompt")
IDS: Final = ("input_ids", "token_ids")
MESSAGES: Final = "messages"
MAX_BYTES: Final = 256 << 20


def fits(path: Path, start: bytes) -> bool:
    """Whether a file is JSON lines, by its name or its first character."""
    named = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
    return named or start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b'"')


def read(path: Path, vocabulary: int) -> list[Row]:
    """Return the rows; blank lines and empty texts are passed over.

    Raises:
        BadInput: a line is no such row; says which.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise BadInput(
            f"{size:,} bytes are more samples than calibration can use",
            where=Where(path=str(path)),
            hint="give some of its lines",
        )
    return list(_rows(path, vocabulary))


def _rows(path: Path, vocabulary: int) -> Iterator[Row]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            row = _row(_parsed(line, number, path), vocabulary, number, path)
            if not isinstance(row, str) or row.strip():
                yield row


def _parsed(line: bytes, number: int, path: Path) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"line {number} is no JSON: {error}",
            where=Where(path=str(path)),
            hint='one value to a line, such as {"text": "..."}',
        ) from error


def _row(value: Any, vocabulary: int, number: int, path: Path) -> Row:
    if isinstance(value, str):
        return value
    row = value if isinstance(value, dict) else {}
    for name in TEXTS:
        if isinstance(row.get(name), str):
            return str(row[name])
    for name in IDS:
        if isinstance(row.get(name), list):
            return check_ids(row[name], vocabulary, f"line {number}", path)
    messages = row.get(MESSAGES)
    if isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages):
        return Conversation(tuple(messages))
    raise BadInput(
        f"line {number} holds no sample",
        where=Where(path=str(path)),
        hint=f"a string, or an object with {', '.join((*TEXTS, MESSAGES, *IDS))}",
    )

"""A UTF-8 text, from which sequences are cut."""

from __future__ import annotations

from pathlib import Path

from modelc.errors import BadInput, Where


def read_text(path: Path) -> str:
    """Return the text.

    Raises:
        BadInput: it is not UTF-8, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput("not a UTF-8 text", where=Where(path=str(path))) from error
    if not text.strip():
        raise BadInput("the text is empty", where=Where(path=str(path)))
    return text

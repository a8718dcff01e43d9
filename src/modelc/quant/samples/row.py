"""A row: one sample as it is given, before it is tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelc.bundle.tokenizer import Tokenizer
from modelc.errors import BadInput, Where


@dataclass(frozen=True)
class Conversation:
    """Messages for the model's chat template."""

    messages: tuple[Mapping[str, Any], ...]


Row = str | Conversation | list[int]
"""A text, a conversation, or the ids of tokens."""


def tokens_of(row: Row, tokenizer: Tokenizer) -> list[int]:
    """Return a row's tokens; none if a text has none of its own.

    Raises:
        BadInput: a text is no valid Unicode, or a conversation does not fit the chat template.
    """
    if isinstance(row, str):
        return tokenizer.encode(row) if tokenizer.encode(row, add_bos=False) else []
    if isinstance(row, Conversation):
        return tokenizer.encode_chat(row.messages, add_generation_prompt=False)
    return row


def check_ids(ids: Sequence[int], vocabulary: int, place: str, path: Path) -> list[int]:
    """Return token ids if all of them are of the vocabulary.

    Args:
        place: the line or array that they come from, for the error.

    Raises:
        BadInput: one is not, or there are none.
    """
    where = Where(path=str(path))
    if not ids:
        raise BadInput(f"{place}: no tokens", where=where)
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocabulary:
            raise BadInput(
                f"{place}: {str(token)[:40]} is no token of the vocabulary of {vocabulary}",
                where=where,
                hint="the data were made for another model",
            )
    return list(ids)

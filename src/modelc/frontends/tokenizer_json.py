"""Loads a tokenizer.json from strangers with the `tokenizers` package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from modelc.errors import BadInput, Where

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load(text: str, path: Path) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json's text; BadInput if it is damaged."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the package raises nothing narrower
        raise BadInput(
            f"the tokenizer can't be loaded: {error}",
            where=Where(path=str(path)),
            hint="it is damaged, or newer than the tokenizers package",
        ) from error

"""A tokenizer as data: what frontends read and bundles keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenizerData:
    """A tokenizer as data.

    Attributes:
        json: the text of a `tokenizer.json` (format of the `tokenizers` package).
        bos_id: beginning-of-text token, None if the model has none.
        eos_ids: any of these ends generation.
        add_bos: whether a prompt starts with `bos_id` (already done by `json`'s post-processor
            or not: `bundle.tokenizer` adds it once).
        chat_template: Jinja source, "" if none.
        special: names of special tokens used by chat templates ("bos_token" -> "<s>", ...).
    """

    json: str
    bos_id: int | None
    eos_ids: tuple[int, ...]
    add_bos: bool
    chat_template: str
    special: Mapping[str, str]

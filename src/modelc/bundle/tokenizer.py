"""A bundle's tokenizer: text to token ids and back, whole or as it streams, and chats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
from pydantic import ConfigDict, TypeAdapter, with_config

from modelc.bundle.chat import Message, render_chat
from modelc.errors import BadInput, Damaged, Where
from modelc.ir.tokenizer import TokenizerData

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"


@with_config(ConfigDict(strict=True, extra="ignore"))
@dataclass(frozen=True)
class _Settings:
    """What is read of tokenizer_config.json; the rest of it is for transformers."""

    add_bos_token: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    chat_template: str | None
    special_tokens: Mapping[str, str]


_SETTINGS = TypeAdapter(_Settings)


class Tokenizer:
    """Wraps the `tokenizers` package; special tokens are added here, once, not by its
    post-processor.

    Raises:
        BadInput: the text of the tokenizer can't be loaded.
    """

    def __init__(self, data: TokenizerData) -> None:
        self.data = data
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(data.json)
        except Exception as error:  # the package raises nothing narrower
            raise BadInput(
                f"the tokenizer can't be loaded: {error}",
                hint="the file is damaged, or newer than the tokenizers package",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end generation."""
        return self.data.eos_ids

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """Return token ids, with the beginning-of-text token once if the model wants it.

        `add_bos` overrides what the model wants.

        Raises:
            BadInput: the text can't be written as UTF-8 (it came from bytes that are none).
        """
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise BadInput("the text is not valid Unicode", hint="give it as UTF-8")
        ids = list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        bos, wanted = self.data.bos_id, self.data.add_bos if add_bos is None else add_bos
        if wanted and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, special tokens left out."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> TextStream:
        """Start decoding token by token."""
        return TextStream(self)

    def apply_chat_template(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as text; encode it with `encode_chat`.

        Raises:
            BadInput: the model has no chat template, or it failed.
        """
        if not self.data.chat_template:
            raise BadInput(
                "the model has no chat template", hint="give the prompt as plain text instead"
            )
        return render_chat(
            self.data.chat_template,
            messages,
            self.data.special,
            add_generation_prompt=add_generation_prompt,
        )

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Return a conversation's token ids; the template alone decides on special tokens."""
        text = self.apply_chat_template(messages, add_generation_prompt=add_generation_prompt)
        return self.encode(text, add_bos=False)


class TextStream:
    """Decodes token by token, holding back what is not whole UTF-8 yet.

    Each token is decoded together with those whose text was shown last, since decoders treat a
    text's beginning otherwise than its middle; and only what that adds is shown.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._shown: list[int] = []
        self._held: list[int] = []

    def add(self, token_id: int) -> str:
        """Return the text that this token completes, often one word or ""."""
        self._held.append(token_id)
        text = self._added()
        if not text or text.endswith("\ufffd"):
            return ""
        self._shown, self._held = self._held, []
        return text

    def finish(self) -> str:
        """Return what is still held back: broken characters as U+FFFD."""
        text, self._held = self._added(), []
        return text

    def _added(self) -> str:
        before = self._tokenizer.decode(self._shown)
        return self._tokenizer.decode([*self._shown, *self._held])[len(before) :]


def save_tokenizer(data: TokenizerData, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, which transformers can read as well."""
    settings = {
        **data.special,
        "special_tokens": dict(data.special),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": data.add_bos,
        "bos_token_id": data.bos_id,
        "eos_token_ids": list(data.eos_ids),
        "chat_template": data.chat_template or None,
        "clean_up_tokenization_spaces": False,
    }
    (folder / TOKENIZER).write_text(data.json, encoding="utf-8", newline="\n")
    text = json.dumps(settings, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / SETTINGS).write_text(text, encoding="utf-8", newline="\n")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read what `save_tokenizer` wrote.

    Raises:
        Damaged: a file is missing or not what `save_tokenizer` writes.
        BadInput: the `tokenizers` package can't read it.
    """
    path = folder / SETTINGS
    try:
        settings = _SETTINGS.validate_json(path.read_bytes())
        text = (folder / TOKENIZER).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Damaged(f"not a bundle's tokenizer: {error}", where=Where(path=str(path))) from error
    data = TokenizerData(
        json=text,
        bos_id=settings.bos_token_id,
        eos_ids=settings.eos_token_ids,
        add_bos=settings.add_bos_token,
        chat_template=settings.chat_template or "",
        special=settings.special_tokens,
    )
    return Tokenizer(data)

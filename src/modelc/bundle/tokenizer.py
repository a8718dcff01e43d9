"""A bundle's tokenizer: text to token ids and back, whole or as it streams, and chats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.decoders import DecodeStream

from modelc.bundle.chat import Message, render_chat
from modelc.errors import BadInput, Damaged, Where
from modelc.ir.tokenizer import TokenizerData

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"


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
        """
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
        return TextStream(self._tokenizer)

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
    """Decodes token by token, holding back what is not whole UTF-8 yet."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._shown = 0

    def add(self, token_id: int) -> str:
        """Return the text that this token completes, often "" or one word."""
        self._ids.append(token_id)
        piece = self._stream.step(self._tokenizer, token_id) or ""
        self._shown += len(piece)
        return piece

    def finish(self) -> str:
        """Return what is still held back: broken characters as U+FFFD."""
        return self._tokenizer.decode(self._ids, skip_special_tokens=True)[self._shown :]


def save_tokenizer(data: TokenizerData, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, which transformers can read as well."""
    settings = {
        **data.special,
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
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        data = TokenizerData(
            json=(folder / TOKENIZER).read_text(encoding="utf-8"),
            bos_id=settings["bos_token_id"],
            eos_ids=tuple(settings["eos_token_ids"]),
            add_bos=settings["add_bos_token"],
            chat_template=settings["chat_template"] or "",
            special={
                name: value
                for name, value in settings.items()
                if name.endswith("_token") and isinstance(value, str)
            },
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"not a bundle's tokenizer: {error}", where=Where(path=str(path))) from error
    return Tokenizer(data)

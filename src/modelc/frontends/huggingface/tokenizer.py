"""Reads the tokenizer of a Hugging Face folder: tokenizer.json and the files beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from modelc.decoder.config import TokenizerData
from modelc.frontends.fields import Fields, parse_json, read_text
from modelc.frontends.tokenizer_json import load

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
MISSING = "save the tokenizer into the folder as well (save_pretrained of a fast tokenizer)"


def read_tokenizer(folder: Path, config: Fields) -> TokenizerData:
    """Return a folder's tokenizer.

    Raises:
        BadInput: there is none, or it is damaged.
    """
    path = folder / "tokenizer.json"
    text = read_text(path, MISSING)
    tokenizer = load(text, path)
    settings = _optional(folder / "tokenizer_config.json")
    special = dict(_special(settings, _optional(folder / "special_tokens_map.json")))
    bos_id = _bos_id(config, tokenizer, special)
    return TokenizerData(
        json=text,
        bos_id=bos_id,
        eos_ids=_eos_ids(folder, config, tokenizer, special),
        add_bos=_adds_bos(settings, tokenizer, bos_id),
        chat_template=_chat_template(folder, settings),
        special=special,
    )


def _optional(path: Path) -> Fields:
    return parse_json(read_text(path, ""), path) if path.exists() else Fields({}, path)


def _special(*sources: Fields) -> Iterator[tuple[str, str]]:
    """Yield the names of special tokens; each is a text, or an object with its `content`."""
    for name in SPECIAL:
        source = next((one for one in sources if one.has(name)), None)
        if source is None:
            continue
        value = source.values[name]
        whole = isinstance(value, dict)
        yield name, Fields(value, source.path).text("content") if whole else source.text(name)


def _bos_id(config: Fields, tokenizer: Tokenizer, special: dict[str, str]) -> int | None:
    last = config.integer("vocab_size", low=1) - 1
    own = tokenizer.token_to_id(special["bos_token"]) if "bos_token" in special else None
    if own is not None and own > last:
        raise config.bad("vocab_size", f"more than {own}, the id of {special['bos_token']!r}")
    if own is None and config.has("bos_token_id"):
        return config.integer("bos_token_id", high=last)
    return own


def _eos_ids(
    folder: Path, config: Fields, tokenizer: Tokenizer, special: dict[str, str]
) -> tuple[int, ...]:
    """Return every id that ends generation: generation_config's, config's, the tokenizer's."""
    ids: dict[int, None] = {}
    for source in (_optional(folder / "generation_config.json"), config):
        if source.has("eos_token_id"):
            value = source.values["eos_token_id"]
            for one in value if isinstance(value, list) else [value]:
                ids.setdefault(Fields({"eos_token_id": one}, source.path).integer("eos_token_id"))
    if "eos_token" in special:
        own = tokenizer.token_to_id(special["eos_token"])
        if own is not None:
            ids.setdefault(own)
    return tuple(ids)


def _adds_bos(settings: Fields, tokenizer: Tokenizer, bos_id: int | None) -> bool:
    if bos_id is None:
        return False
    if settings.has("add_bos_token"):
        return settings.boolean("add_bos_token")
    return list(tokenizer.encode("a").ids[:1]) == [bos_id]


def _chat_template(folder: Path, settings: Fields) -> str:
    path = folder / "chat_template.jinja"
    if path.exists():
        return read_text(path, "")
    if not settings.has("chat_template"):
        return ""
    value = settings.values["chat_template"]
    if isinstance(value, list):  # several by name
        rows = [Fields(row, settings.path) for row in value if isinstance(row, dict)]
        named = {row.text("name"): row.text("template") for row in rows}
        return named.get("default", "")
    return settings.text("chat_template")

"""Rebuilds a tokenizer.json from a GGUF file's metadata, by llama.cpp's conventions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from modelc.decoder.config import TokenizerData
from modelc.errors import BadInput, Where
from modelc.frontends.fields import Fields
from modelc.frontends.gguf import byte_level, sentencepiece
from modelc.frontends.gguf.vocabulary import (
    CONTROL,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    read_vocabulary,
)
from modelc.frontends.tokenizer_json import load

MODELS: Final = {"gpt2": byte_level.sections, "llama": sentencepiece.sections}

SPECIAL: Final[Mapping[str, str]] = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}
ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
# Files often name one end only; these tokens end a turn or a text wherever they exist.
END_TOKENS = frozenset(
    {
        "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>",
        "<end_of_turn>", "<EOT>",
    }
)  # fmt: skip
# Phi-3's special tokens swallow the spaces after them, but for these. No key says so.
NOT_SWALLOWING = ("<unk>", "<s>", "<|endoftext|>")


def read_tokenizer(metadata: Fields, vocab_size: int) -> TokenizerData:
    """Return the tokenizer that a file's metadata describes.

    Args:
        vocab_size: the number of embeddings; the vocabulary may be smaller.

    Raises:
        BadInput: there is none, it is of an unknown kind, or its parts don't fit.
    """
    fields = metadata.under("tokenizer.ggml.")
    if not fields.has("model"):
        raise BadInput(
            "the file has no tokenizer",
            where=Where(path=str(metadata.path)),
            hint="convert the model again, with its tokenizer",
        )
    sections = fields.choice("model", MODELS)
    vocabulary = read_vocabulary(fields, vocab_size)
    last = len(vocabulary.tokens) - 1
    ids = {
        key: fields.integer(key, high=last)
        for key in dict.fromkeys((*SPECIAL.values(), *ENDS))
        if fields.has(key)
    }
    bos_id = ids.get("bos_token_id")
    wants_bos = fields.boolean("add_bos_token", _usual_bos(fields))
    first = None if bos_id is None or not wants_bos else _bos_first(vocabulary, bos_id)
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocabulary, swallowing=_is_phi3(metadata)),
        "post_processor": first,
        **sections(fields, vocabulary),
    }
    text = json.dumps(document, ensure_ascii=False)
    load(text, metadata.path)
    return TokenizerData(
        json=text,
        bos_id=bos_id,
        eos_ids=_ends(ids, vocabulary),
        add_bos=first is not None,
        chat_template=metadata.text("tokenizer.chat_template", ""),
        special={name: vocabulary.tokens[ids[key]] for name, key in SPECIAL.items() if key in ids},
    )


def _usual_bos(fields: Fields) -> bool:
    return fields.text("model") == "llama" or byte_level.pre_tokenizer(fields).add_bos


def _is_phi3(metadata: Fields) -> bool:
    model = metadata.text("tokenizer.ggml.model")
    return metadata.text("general.architecture") == "phi3" and model == "llama"


def _ends(ids: Mapping[str, int], vocabulary: Vocabulary) -> tuple[int, ...]:
    named = [ids[key] for key in ENDS if key in ids]
    special = vocabulary.of_kind(CONTROL, USER_DEFINED)
    found = [index for token, index in special.items() if token in END_TOKENS]
    return tuple(dict.fromkeys(named + found))


def _added_tokens(vocabulary: Vocabulary, *, swallowing: bool) -> list[dict[str, Any]]:
    """Tokens that are found in text before anything else."""
    return [
        {
            "id": index,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": swallowing and token not in NOT_SWALLOWING,
            "normalized": False,
            "special": vocabulary.kinds[index] != USER_DEFINED,
        }
        for token, index in vocabulary.of_kind(CONTROL, USER_DEFINED, UNKNOWN).items()
    ]


def _bos_first(vocabulary: Vocabulary, bos_id: int) -> dict[str, Any]:
    token = vocabulary.tokens[bos_id]
    parts = [
        {"SpecialToken": {"id": token, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    return {
        "type": "TemplateProcessing",
        "single": parts,
        "pair": [*parts, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [bos_id], "tokens": [token]}},
    }

"""Rebuilds a tokenizer.json from a GGUF file's metadata.

Two models: "gpt2", byte-level BPE with merges; "llama", SentencePiece's BPE, whose merges follow
from the tokens' scores, with bytes as a fallback. Conventions are llama.cpp's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from modelc.decoder.config import TokenizerData
from modelc.errors import BadInput, Where, nearest
from modelc.frontends.fields import Fields
from modelc.frontends.gguf.pretokenizers import PRE_TOKENIZERS
from modelc.frontends.tokenizer_json import load

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
NOT_STRIPPING = ("<unk>", "<s>", "<|endoftext|>")
SPACE = "▁"  # SentencePiece's stand-in for a space

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


def read_tokenizer(metadata: Fields, vocab_size: int) -> TokenizerData:
    """Return the tokenizer that a file's metadata describes.

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
    make = fields.choice("model", {"gpt2": _byte_level, "llama": _sentencepiece})
    tokens = _tokens(fields, vocab_size)
    types = _types(fields, len(tokens))
    ids = {key: _id(fields, key, len(tokens)) for key in (*SPECIAL.values(), *ENDS)}
    bos_id = ids["bos_token_id"]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, types, strips=_strips(metadata)),
        **make(fields, tokens, types, ids["unknown_token_id"]),
    }
    add_bos = bos_id is not None and fields.boolean("add_bos_token", _usual_bos(fields))
    if add_bos and bos_id is not None:
        document["post_processor"] = _bos_first(tokens[bos_id], bos_id)
    text = json.dumps(document, ensure_ascii=False)
    load(text, metadata.path)
    return TokenizerData(
        json=text,
        bos_id=bos_id,
        eos_ids=_ends(ids, tokens, types),
        add_bos=add_bos,
        chat_template=metadata.text("tokenizer.chat_template", ""),
        special={
            name: tokens[index] for name, key in SPECIAL.items() if (index := ids[key]) is not None
        },
    )


def _tokens(fields: Fields, vocab_size: int) -> list[str]:
    tokens = fields.texts("tokens")
    if not 1 <= len(tokens) <= vocab_size:
        raise BadInput(
            f"there are {len(tokens)} tokens, but {vocab_size} embeddings",
            where=Where(path=str(fields.path)),
        )
    return tokens


def _types(fields: Fields, count: int) -> list[int]:
    types = fields.values.get(f"{fields.prefix}token_type", [NORMAL] * count)
    if (
        not isinstance(types, list)
        or len(types) != count
        or not all(type(kind) is int for kind in types)
    ):
        raise fields.bad("token_type", f"{count} integers")
    return types


def _id(fields: Fields, key: str, count: int) -> int | None:
    return fields.integer(key, high=count - 1) if fields.has(key) else None


def _usual_bos(fields: Fields) -> bool:
    if fields.text("model") == "llama":
        return True
    return fields.choice("pre", PRE_TOKENIZERS).add_bos


def _ends(ids: Mapping[str, int | None], tokens: list[str], types: list[int]) -> tuple[int, ...]:
    named = [index for key in ENDS if (index := ids[key]) is not None]
    found = [
        index
        for index, token in enumerate(tokens)
        if token in END_TOKENS and types[index] in (CONTROL, USER_DEFINED)
    ]
    return tuple(dict.fromkeys(named + found))


def _strips(metadata: Fields) -> bool:
    """Phi-3's special tokens swallow the spaces after them; no key says so."""
    model = metadata.text("tokenizer.ggml.model")
    return metadata.text("general.architecture") == "phi3" and model == "llama"


def _added(tokens: list[str], types: list[int], *, strips: bool) -> list[dict[str, Any]]:
    """Tokens that are found in text before anything else."""
    plain = {"single_word": False, "lstrip": False, "normalized": False}
    return [
        {
            "id": index,
            "content": token,
            **plain,
            "rstrip": strips and token not in NOT_STRIPPING,
            "special": kind != USER_DEFINED,
        }
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (CONTROL, USER_DEFINED, UNKNOWN) and token
    ]


def _vocabulary(fields: Fields, tokens: list[str], types: list[int]) -> dict[str, int]:
    """Return ids by token, without unused and empty ones."""
    vocabulary: dict[str, int] = {}
    for index, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind == UNUSED or not token:
            continue
        if token in vocabulary:
            raise BadInput(
                f"tokens {vocabulary[token]} and {index} are both {token!r}",
                where=Where(path=str(fields.path)),
                hint="the vocabulary is damaged",
            )
        vocabulary[token] = index
    return vocabulary


def _byte_level(
    fields: Fields, tokens: list[str], types: list[int], unknown: int | None
) -> dict[str, Any]:
    name = fields.text("pre", "(none)")
    if name not in PRE_TOKENIZERS:
        raise BadInput(
            f"unknown pre-tokenizer {name!r}",
            where=Where(path=str(fields.path)),
            hint=f"{nearest(name, PRE_TOKENIZERS)}; a wrong one would cut text into wrong tokens",
        )
    rule = PRE_TOKENIZERS[name]
    # The first character may be a space itself, so look for one after it.
    cuts = [(merge, merge.find(" ", 1)) for merge in fields.texts("merges")]
    if any(cut < 0 for _, cut in cuts):
        raise BadInput("a merge has no second part", where=Where(path=str(fields.path)))
    splits: list[dict[str, Any]] = [
        {"type": "Split", "pattern": {"Regex": rule_}, "behavior": "Isolated", "invert": False}
        for rule_ in rule.patterns
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "normalizer": {"type": rule.normalizer} if rule.normalizer else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*splits, {**byte_level, "use_regex": False}],
        },
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": _bpe(
            _vocabulary(fields, tokens, types),
            [(merge[:cut], merge[cut + 1 :]) for merge, cut in cuts],
            ignore_merges=rule.whole_words,
        ),
    }


def _sentencepiece(
    fields: Fields, tokens: list[str], types: list[int], unknown: int | None
) -> dict[str, Any]:
    scores = fields.numbers("scores")
    if len(scores) != len(tokens):
        raise fields.bad("scores", f"{len(tokens)} numbers")
    prefix = fields.boolean("add_space_prefix", True)
    to_space = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    from_space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    first = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*first, from_space]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [to_space, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        "model": _bpe(
            _vocabulary(fields, tokens, types),
            _merges(tokens, types, scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=BYTE in types,
        ),
    }


def _merges(
    tokens: list[str], types: list[int], scores: tuple[float, ...]
) -> list[tuple[str, str]]:
    """Return every way to make a token of two others, best token first.

    SentencePiece joins the neighbours that make the token of the highest score; ranking all
    pairs by that score has BPE do the same.
    """
    pieces = {
        token: index
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (NORMAL, USER_DEFINED)
    }
    pairs = [
        (-scores[index], cut, token[:cut], token[cut:])
        for token, index in pieces.items()
        for cut in range(1, len(token))
        if token[:cut] in pieces and token[cut:] in pieces
    ]
    return [(left, right) for _, _, left, right in sorted(pairs)]


def _bpe(
    vocabulary: Mapping[str, int], merges: list[tuple[str, str]], **settings: Any
) -> dict[str, Any]:
    usual = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False,
    }  # fmt: skip
    return {**usual, **settings, "vocab": vocabulary, "merges": merges}


def _bos_first(token: str, index: int) -> dict[str, Any]:
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    parts = [first, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": parts,
        "pair": [*parts, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }

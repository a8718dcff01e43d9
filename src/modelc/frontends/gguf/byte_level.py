"""GGUF's tokenizer model "gpt2", byte-level BPE with merges, as sections of a tokenizer.json."""

from __future__ import annotations

from typing import Any

from modelc.errors import BadInput, Where, nearest
from modelc.frontends.fields import Fields
from modelc.frontends.gguf.pretokenizers import PRE_TOKENIZERS, PreTokenizer
from modelc.frontends.gguf.vocabulary import Vocabulary, bpe


def sections(fields: Fields, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return normalizer, pre-tokenizer, decoder and model.

    Raises:
        BadInput: an unknown pre-tokenizer, or merges that make no sense.
    """
    rule = pre_tokenizer(fields)
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in rule.patterns
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "normalizer": {"type": rule.normalizer} if rule.normalizer else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*splits, {**byte_level, "use_regex": False}],
        },
        "decoder": {**byte_level, "use_regex": True},
        "model": bpe(vocabulary.ids, _merges(fields), ignore_merges=rule.whole_words),
    }


def pre_tokenizer(fields: Fields) -> PreTokenizer:
    """Return the rule that the file names; BadInput if there is none of that name."""
    name = fields.text("pre", "(none)")
    if name not in PRE_TOKENIZERS:
        raise BadInput(
            f"unknown pre-tokenizer {name!r}",
            where=Where(path=str(fields.path)),
            hint=f"{nearest(name, PRE_TOKENIZERS)}; a wrong one would cut text into wrong tokens",
        )
    return PRE_TOKENIZERS[name]


def _merges(fields: Fields) -> list[tuple[str, str]]:
    # The first character may be a space itself, so look for one after it.
    cuts = [(merge, merge.find(" ", 1)) for merge in fields.texts("merges")]
    if any(cut < 0 for _, cut in cuts):
        raise BadInput("a merge has no second part", where=Where(path=str(fields.path)))
    return [(merge[:cut], merge[cut + 1 :]) for merge, cut in cuts]

"""How a byte-level BPE tokenizer cuts text into words, by the name in `tokenizer.ggml.pre`.

The rules are those of the models' own tokenizer.json files; the names are llama.cpp's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class PreTokenizer:
    """One row.

    Attributes:
        patterns: applied one after the other; what a pattern doesn't match stays a word.
        whole_words: a word that is in the vocabulary is that token, whatever the merges say.
        add_bos: where the file doesn't say.
        normalizer: of Unicode, before cutting.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False
    normalizer: Literal["", "NFC"] = ""


_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _modern(digits: str) -> str:
    """The rule of GPT-4 and its followers, up to how many digits make a word."""
    return (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
    )


def _cased(ending: str, digits: str) -> str:
    """The rule of GPT-4o: words also end where lower case turns into upper case."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{ending}"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{ending}|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    )


_PLAIN = PreTokenizer((_GPT2,))
_DIGITS = PreTokenizer((r"\p{N}", _GPT2))
_LLAMA3 = PreTokenizer((_modern(r"\p{N}{1,3}"),), whole_words=True, add_bos=True)
_QWEN2 = (_modern(r"\p{N}"),)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")
_GPT4O = PreTokenizer((_cased(f"{_CONTRACTIONS}?", r"\p{N}{1,3}"),))

PRE_TOKENIZERS: Final[Mapping[str, PreTokenizer]] = {
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
    "gpt-2": _PLAIN,
    "a.x-4.0": _PLAIN,
    "mellum": _PLAIN,
    "smollm": _DIGITS,
    "minerva-7b": _DIGITS,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama-bpe": _LLAMA3,
    "falcon3": _LLAMA3,
    "pixtral": _LLAMA3,
    "dbrx": PreTokenizer((_modern(r"\p{N}{1,3}"),)),
    "smaug-bpe": PreTokenizer((_modern(r"\p{N}{1,3}"),)),
    "qwen2": PreTokenizer(_QWEN2, normalizer="NFC"),
    "deepseek-r1-qwen": PreTokenizer(_QWEN2),
    "megrez": PreTokenizer(_QWEN2),
    "deepseek-coder": PreTokenizer(_DEEPSEEK_CODER),
    "tekken": PreTokenizer((_cased("", r"\p{N}"),), whole_words=True, add_bos=True),
    "gpt-4o": _GPT4O,
}

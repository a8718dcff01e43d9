"""The tokens of a GGUF file and their kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelc.errors import BadInput, Where
from modelc.frontends.fields import Fields

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id, each with its kind (NORMAL, ...), and id by token.

    `ids` leaves out unused and empty tokens: no text becomes one of them.
    """

    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    ids: Mapping[str, int]

    def of_kind(self, *kinds: int) -> dict[str, int]:
        """Return the ids of the tokens of some kinds, by token, in the order of ids."""
        return {token: index for token, index in self.ids.items() if self.kinds[index] in kinds}


def read_vocabulary(fields: Fields, vocab_size: int) -> Vocabulary:
    """Read the tokens under `tokenizer.ggml.`, of which there may be at most `vocab_size`.

    Raises:
        BadInput: there are too many or none, kinds don't fit, or a token appears twice.
    """
    tokens = tuple(fields.texts("tokens"))
    if not 1 <= len(tokens) <= vocab_size:
        raise BadInput(
            f"there are {len(tokens)} tokens, but {vocab_size} embeddings",
            where=Where(path=str(fields.path)),
            hint="the vocabulary doesn't belong to these weights",
        )
    plain = [NORMAL] * len(tokens)
    given = fields.values[f"{fields.prefix}token_type"] if fields.has("token_type") else plain
    kinds = tuple(given) if isinstance(given, list) else ()
    if len(kinds) != len(tokens) or not all(type(kind) is int for kind in kinds):
        raise fields.bad("token_type", f"{len(tokens)} integers")
    ids: dict[str, int] = {}
    for index, (token, kind) in enumerate(zip(tokens, kinds, strict=True)):
        if kind == UNUSED or not token:
            continue
        if token in ids:
            raise BadInput(
                f"tokens {ids[token]} and {index} are both {token!r}",
                where=Where(path=str(fields.path)),
                hint="the vocabulary is damaged",
            )
        ids[token] = index
    return Vocabulary(tokens, kinds, ids)


def bpe(ids: Mapping[str, int], merges: list[tuple[str, str]], **settings: Any) -> dict[str, Any]:
    """Return the `model` of a tokenizer.json."""
    usual = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
        "ignore_merges": False,
    }  # fmt: skip
    return {**usual, **settings, "vocab": dict(ids), "merges": merges}

"""GGUF's tokenizer model "llama", SentencePiece's BPE, as sections of a tokenizer.json.

The file has no merges: they follow from the scores. Bytes are the fallback for characters that
are not in the vocabulary. Source: SentencePiece (https://arxiv.org/abs/1808.06226).
"""

from __future__ import annotations

from typing import Any

from modelc.frontends.fields import Fields
from modelc.frontends.gguf.vocabulary import BYTE, NORMAL, UNKNOWN, USER_DEFINED, Vocabulary, bpe

MAX_PIECE = 256  # bounds the work on a hostile vocabulary; usual ones have up to 48
SPACE = "▁"  # stands for a space in tokens


def sections(fields: Fields, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return normalizer, pre-tokenizer, decoder and model.

    Raises:
        BadInput: the scores don't fit the vocabulary.
    """
    prefix = fields.boolean("add_space_prefix", True)
    first = [{"type": "Prepend", "prepend": SPACE}] if prefix else []
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    unknown = next(iter(vocabulary.of_kind(UNKNOWN)), None)
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*first, spaces]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        "model": bpe(
            vocabulary.ids,
            _merges(fields, vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=BYTE in vocabulary.kinds,
        ),
    }


def _merges(fields: Fields, vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Return every way to make a token of two others, best token first.

    SentencePiece joins the two neighbours that make the token of the highest score; ranking all
    pairs by that score has BPE do the same.
    """
    scores = fields.numbers("scores")
    if len(scores) != len(vocabulary.tokens):
        raise fields.bad("scores", f"{len(vocabulary.tokens)} numbers")
    pieces = vocabulary.of_kind(NORMAL, USER_DEFINED)
    if max(map(len, pieces), default=0) > MAX_PIECE:
        raise fields.bad("tokens", f"at most {MAX_PIECE} characters each")
    pairs = [
        (-scores[index], cut, token[:cut], token[cut:])
        for token, index in pieces.items()
        for cut in range(1, len(token))
        if token[:cut] in pieces and token[cut:] in pieces
    ]
    return [(left, right) for _, _, left, right in sorted(pairs)]

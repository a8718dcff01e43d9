"""Tokenizers rebuilt from GGUF metadata against the Hugging Face tokenizers they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import random_models
from support.write_gguf import add_tokenizer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from modelc.decoder.config import TokenizerData
from modelc.errors import BadInput
from modelc.frontends.fields import Fields
from modelc.frontends.gguf.container import read_container
from modelc.frontends.gguf.pretokenizers import PRE_TOKENIZERS
from modelc.frontends.gguf.tokenizer import read_tokenizer

VOCAB = 640
TEXTS = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "a ",
    "Hello world",
    "  two  spaces   three    four ",
    "tab\ttab\t\ttabs",
    "line\nline\n\nlines\r\n\r\n  \n x",
    "trailing \n",
    "\n",
    "\n\n",
    " \n ",
    "I've we'll they'd it's 'RE 'Ll don'T O'Neil 's we'LLx i'Mn",
    "1 12 123 1234 12345 3.14 1,000,000 v2.0 x86_64",
    "٠١٢٣ ௧௨ Ⅷ ½ ²",
    "camelCaseWords HTTPServer snake_case SCREAMING_CASE iPhone",
    "def f(x):\n    return x**2  # comment\n\n\nclass A:\n\tpass",
    "a+b=c <tag attr='v'> [1,2] {k: v} $5 ~x^2 `q` |p|",
    "!!!???...",
    "...word",
    "word...",
    "https://example.org/path?q=1&r=2#frag",
    "Größe naïve café Ünïcödé",
    "cafe\u0301 A\u030a \u1e9b\u0323",
    "東京タワーに行く。한국어 문장",
    "Привет, мир! ДАЖЕ так",
    "مرحبا بالعالم",
    "हिन्दी में",
    "ไทยภาษา",
    "🙂🚀👩\u200d👩\u200d👧 🇩🇪 ❤️",
    "\u00a0nbsp\u2003em\u200bzero\ufeffbom",
    "▁literal▁ ▁",
    "null\x00byte \x07bell",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U00010348",
    "a" * 50,
    "ab " * 20,
    "=" * 40,
    " " * 40,
    "<s>",
    "x<s>y",
    "<s> x </s> <pad>",
    "<s",
    "[PAD600]",
    "<0x0A>",
    "<unk>",
]
# Text drawn from what tokenizers treat differently, so that few examples meet many rules.
text = st.text(
    st.one_of(
        st.sampled_from(" \t\n\r.,'!?-_/()[]{}=+$<>|"),
        st.sampled_from("'s'T'll'VE"),
        st.characters(categories=["Lu", "Ll", "Lo", "Lm", "Mn", "Nd", "No", "Zs", "So"]),
        st.characters(max_codepoint=0x7F),
    ),
    max_size=40,
)


def byte_level(*steps: Any, normalizer: Any = None, ignore_merges: bool = False) -> Tokenizer:
    """A byte-level BPE trained on a few sentences, cutting words by `steps`."""
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 40,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(random_models.SENTENCES + TEXTS, trainer)
    return made


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
GPT2_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def qwen2() -> Tokenizer:
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    return byte_level(split(PRETOKENIZE_REGEX), BYTES, normalizer=normalizers.NFC())


def llama3() -> Tokenizer:
    from transformers.convert_slow_tokenizer import TikTokenConverter

    return byte_level(split(TikTokenConverter("").pattern), BYTES, ignore_merges=True)


REFERENCES: dict[str, Callable[[], Tokenizer]] = {
    "gpt-2": lambda: byte_level(GPT2_BYTES),
    "smollm": lambda: byte_level(pre_tokenizers.Digits(individual_digits=True), GPT2_BYTES),
    "qwen2": qwen2,
    "llama-bpe": llama3,
    "tekken": lambda: byte_level(split(CASED), BYTES, ignore_merges=True),
}


def sentencepiece(*, prefix: bool) -> Tokenizer:
    """A BPE with byte fallback whose merges transformers derives from scores."""
    from transformers.convert_slow_tokenizer import generate_merges

    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB - 40, special_tokens=special, show_progress=False
    )
    trained.train_from_iterator(random_models.SENTENCES, trainer)
    vocab = trained.get_vocab()
    pieces = {piece: index for piece, index in vocab.items() if piece not in special}
    scores = {piece: -float(index) for piece, index in pieces.items()}
    merges = generate_merges(pieces, scores)
    made = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", "▁")
    first = [normalizers.Prepend("▁")] if prefix else []
    made.normalizer = normalizers.Sequence([*first, spaces])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.decoder = decoders.Sequence([*back, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    return made


def through_gguf(made: Tokenizer, folder: Path, pre: str = "gpt-2") -> TokenizerData:
    """Write a tokenizer into a GGUF file and rebuild it."""
    made.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    writer = gguf.GGUFWriter(folder / "vocabulary.gguf", "llama")
    add_tokenizer(writer, folder, VOCAB, pre)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    container = read_container(folder / "vocabulary.gguf")
    return read_tokenizer(Fields(container.metadata, container.path), VOCAB)


def words(tokenizer: Tokenizer, one: str) -> list[str]:
    """Where a small vocabulary doesn't show how text was cut."""
    cutter = tokenizer.pre_tokenizer
    return [word for word, _ in cutter.pre_tokenize_str(one)] if cutter else []


def check_same(made: Tokenizer, rebuilt: Tokenizer, texts: list[str]) -> None:
    for one in texts:
        assert words(rebuilt, one) == words(made, one), repr(one)
        ids = made.encode(one).ids
        assert rebuilt.encode(one).ids == ids, repr(one)
        assert rebuilt.decode(ids) == made.decode(ids), repr(one)


@pytest.mark.parametrize("pre", REFERENCES)
def test_byte_level(pre: str, tmp_path: Path) -> None:
    made = REFERENCES[pre]()
    data = through_gguf(made, tmp_path, pre)
    rebuilt = Tokenizer.from_str(data.json)
    check_same(made, rebuilt, TEXTS)
    assert (data.bos_id, data.eos_ids, data.add_bos) == (0, (1,), False)
    assert data.special == {"bos_token": "<s>", "eos_token": "</s>"}

    @settings(max_examples=150)
    @given(text)
    def any_text(one: str) -> None:
        check_same(made, rebuilt, [one])

    any_text()


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece(prefix: bool, tmp_path: Path) -> None:
    made = sentencepiece(prefix=prefix)
    data = through_gguf(made, tmp_path)
    rebuilt = Tokenizer.from_str(data.json)
    check_same(made, rebuilt, TEXTS)

    @settings(max_examples=150)
    @given(text)
    def any_text(one: str) -> None:
        check_same(made, rebuilt, [one])

    any_text()


def test_rules_differ() -> None:
    """The table is worth its rows only if a wrong one gives other words."""
    rules = {name: row.patterns for name, row in PRE_TOKENIZERS.items() if name in REFERENCES}
    assert len(set(rules.values())) == len(rules) == len(REFERENCES)


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_rule_loses_nothing(name: str, tmp_path: Path) -> None:
    made = byte_level(BYTES)
    rebuilt = Tokenizer.from_str(through_gguf(made, tmp_path, name).json)
    normal = normalizers.NFC().normalize_str if PRE_TOKENIZERS[name].normalizer else str
    for one in TEXTS:
        if "<" not in one:
            assert rebuilt.decode(rebuilt.encode(one).ids) == normal(one)


def metadata(**changes: Any) -> Fields:
    values: dict[str, Any] = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "▁", "a", "▁a", "<|eot_id|>", "", ""],
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0, -3.0, -2.0, -1.0, 0.0, 0.0, 0.0],
        "tokenizer.ggml.token_type": [2, 3, 3, 1, 1, 1, 3, 1, 5],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    values |= {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    return Fields(values, Path("model.gguf"))


def test_defaults_and_ends() -> None:
    data = read_tokenizer(metadata(), 9)
    assert data.add_bos
    assert Tokenizer.from_str(data.json).encode("a").ids == [1, 5]
    assert data.eos_ids == (2, 6)  # one by its key, one by its name
    assert read_tokenizer(metadata(eot_token_id=4), 9).eos_ids == (2, 4, 6)
    assert not read_tokenizer(metadata(add_bos_token=False), 9).add_bos
    assert not read_tokenizer(metadata(bos_token_id=None), 9).add_bos


def test_phi3_special_tokens_swallow_spaces() -> None:
    fields = metadata()
    phi3 = Fields({**fields.values, "general.architecture": "phi3"}, fields.path)
    plain, swallowing = (
        Tokenizer.from_str(read_tokenizer(one, 9).json).encode("<|eot_id|>  a").ids
        for one in (fields, phi3)
    )
    assert plain == [1, 6, 3, 3, 5]
    assert swallowing == [1, 6, 5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "no tokenizer"),
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert'"),
        ({"model": "gpt2", "pre": "llama-bpo", "merges": []}, "unknown pre-tokenizer 'llama-bpo'"),
        ({"model": "gpt2", "merges": []}, "unknown pre-tokenizer '(none)'"),
        ({"model": "gpt2", "pre": "gpt-2"}, "merges is missing"),
        ({"model": "gpt2", "pre": "gpt-2", "merges": ["ab"]}, "no second part"),
        ({"model": "gpt2", "pre": "gpt-2", "merges": ["x y"]}, "can't be loaded"),
        ({"tokens": None}, "tokens is missing"),
        ({"tokens": ["a"] * 10}, "10 tokens, but 9 embeddings"),
        ({"tokens": ["a"] * 9}, "tokens 0 and 1 are both 'a'"),
        ({"token_type": [1]}, "token_type"),
        ({"token_type": [1.5] * 9}, "token_type"),
        ({"scores": [0.0]}, "scores"),
        ({"scores": [float("nan")] * 9}, "scores"),
        ({"eos_token_id": 9}, "eos_token_id is 9"),
        ({"bos_token_id": -1}, "bos_token_id is -1"),
        ({"add_bos_token": 1}, "add_bos_token is 1"),
        ({"tokens": ["a", "x" * 300, *"bcdefgh"], "token_type": None}, "256 characters"),
    ],
)
def test_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_tokenizer(metadata(**changes), 9)
    assert message in caught.value.message + caught.value.hint
    assert caught.value.where.path == "model.gguf"


def test_unknown_pre_tokenizer_names_the_nearest() -> None:
    with pytest.raises(BadInput) as caught:
        read_tokenizer(metadata(model="gpt2", pre="llama-bpo", merges=[]), 9)
    assert "llama-bpe" in caught.value.hint

"""The tokenizer against transformers, on the model that ships and on one made here."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Fast

from modelc.bundle.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from modelc.errors import BadInput, Damaged, ModelcError
from modelc.ir.tokenizer import TokenizerData

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_level() -> Fast:
    """256 bytes, two merges, a post-processor that adds <s>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: index for index, letter in enumerate([*alphabet, "th", "the"])}
    fast = Fast(models.BPE(vocab=vocab, merges=[("t", "h"), ("th", "e")]))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    bos = fast.token_to_id("<s>")
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bos)]
    )
    return fast


def byte_fallback() -> Fast:
    """Llama's kind: pieces with a leading ▁, bytes for what is in no piece."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{code:02X}>" for code in range(256))]
    pieces += ["▁", *"abcdefghijklmnopqrstuvwxyz", "▁a", "th"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    fast = Fast(
        models.BPE(
            vocab=vocab, merges=[("▁", "a"), ("t", "h")], byte_fallback=True, unk_token="<unk>"
        )
    )
    fast.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    fast.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    fast.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    return fast


def data_of(fast: Fast) -> TokenizerData:
    return TokenizerData(
        json=fast.to_str(),
        bos_id=fast.token_to_id("<s>"),
        eos_ids=(fast.token_to_id("</s>"),),
        add_bos=True,
        chat_template=TEMPLATE,
        special={"bos_token": "<s>", "eos_token": "</s>"},
    )


BOTH = [Tokenizer(data_of(byte_level())), Tokenizer(data_of(byte_fallback()))]
TEXTS = ["the sea", "", " two  spaces\n", "héllo 你好 🙂", "<s>the", "x</s>y"]


@pytest.mark.parametrize("tokenizer", BOTH, ids=["byte-level", "byte-fallback"])
@pytest.mark.parametrize("text", TEXTS)
def test_bos_comes_once(tokenizer: Tokenizer, text: str) -> None:
    bos = tokenizer.data.bos_id
    ids = tokenizer.encode(text)
    assert ids[0] == bos
    assert ids.count(bos) == 1
    assert tokenizer.encode(text, add_bos=False)[:1] == (
        [bos] if text.startswith("<s>") else tokenizer.encode(text)[1:2]
    )


def test_no_bos_where_the_model_wants_none() -> None:
    data = dataclasses.replace(data_of(byte_level()), add_bos=False)
    assert data.bos_id not in Tokenizer(data).encode("the")
    without = dataclasses.replace(data, add_bos=True, bos_id=None)
    assert Tokenizer(without).encode("the") == Tokenizer(data).encode("the")


@pytest.mark.parametrize("tokenizer", BOTH, ids=["byte-level", "byte-fallback"])
@settings(max_examples=60)
@given(text=st.text(max_size=20))
def test_what_streams_is_what_decodes(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    stream = tokenizer.stream()
    pieces = [stream.add(token) for token in ids]
    assert "".join(pieces) + stream.finish() == tokenizer.decode(ids)


@settings(max_examples=100)
@given(ids=st.lists(st.integers(0, 259), max_size=12))
def test_what_a_model_may_write_streams_too(ids: list[int]) -> None:
    """Any tokens at all: broken UTF-8, special tokens in between, ends in the middle."""
    stream = BOTH[0].stream()
    pieces = [stream.add(token) for token in ids]
    assert "".join(pieces) + stream.finish() == BOTH[0].decode(ids)


@settings(max_examples=300)
@given(ids=st.lists(st.integers(0, 287), max_size=12))
def test_broken_bytes_spoil_nothing_after_them(ids: list[int]) -> None:
    """The decoder of bytes that are pieces breaks a whole run, of which some may be shown already;
    what follows the run comes out right."""
    stream = BOTH[1].stream()
    pieces = [stream.add(token) for token in [*ids, 260, 261, 262]]
    text = "".join(pieces) + stream.finish()
    assert text.endswith("abc")
    whole = BOTH[1].decode([*ids, 260, 261, 262])
    assert text == whole or "\ufffd" in whole


def test_a_character_is_held_back_until_it_is_whole() -> None:
    tokenizer = BOTH[0]
    stream = tokenizer.stream()
    pieces = [stream.add(token) for token in tokenizer.encode("🙂", add_bos=False)]
    assert pieces == ["", "", "", "🙂"]
    cut = tokenizer.stream()
    for token in tokenizer.encode("a🙂", add_bos=False)[:-1]:
        cut.add(token)
    assert "\ufffd" in cut.finish()


def test_saved_loaded_and_read_by_transformers(tmp_path: Path) -> None:
    import transformers

    data = data_of(byte_level())
    save_tokenizer(data, tmp_path)
    assert load_tokenizer(tmp_path).data == data
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    for text in TEXTS[:4]:
        assert ours.encode(text) == theirs(text).input_ids
        assert ours.decode(ours.encode(text)) == theirs.decode(
            theirs(text).input_ids, skip_special_tokens=True
        )
    messages = [{"role": "user", "content": " the sea "}, {"role": "assistant", "content": "is"}]
    for prompt in (True, False):
        rendered = theirs.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=prompt
        )
        assert ours.apply_chat_template(messages, add_generation_prompt=prompt) == rendered
    assert ours.encode_chat(messages) == theirs.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )


def test_the_model_that_ships() -> None:
    folder = Path(__file__).parents[2] / "examples" / "tiny-llm" / "hf"
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    data = TokenizerData(
        json=(folder / "tokenizer.json").read_text(),
        bos_id=theirs.bos_token_id,
        eos_ids=(theirs.eos_token_id,),
        add_bos=True,
        chat_template="",
        special={},
    )
    text = (folder.parent / "heldout.txt").read_text()[:5000]
    assert Tokenizer(data).encode(text) == theirs(text).input_ids
    assert Tokenizer(data).decode(theirs(text).input_ids) == text


def test_truncation_and_padding_of_the_file_are_ignored() -> None:
    fast = byte_level()
    fast.enable_truncation(4)
    fast.enable_padding(length=64)
    assert Tokenizer(data_of(fast)).encode("the sea is deep") == BOTH[0].encode("the sea is deep")


@pytest.mark.parametrize("text", ["", "{}", '{"model": {"type": "Nonsense"}}', "[" * 5000])
def test_a_damaged_tokenizer(text: str) -> None:
    with pytest.raises(BadInput, match="can't be loaded"):
        Tokenizer(dataclasses.replace(data_of(byte_level()), json=text))


@pytest.mark.parametrize(
    "change",
    [
        {"bos_token_id": "x"},
        {"bos_token_id": None, "eos_token_ids": 3},
        {"eos_token_ids": [1.5]},
        {"add_bos_token": 1},
        {"chat_template": 7},
        {"special_tokens": {"bos_token": 1}},
    ],
)
def test_damaged_settings(tmp_path: Path, change: dict[str, object]) -> None:
    save_tokenizer(data_of(byte_level()), tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(Damaged, match="not a bundle's tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("data", [None, b"\xff", b"[]"])
def test_damaged_files(tmp_path: Path, name: str, data: bytes | None) -> None:
    save_tokenizer(data_of(byte_level()), tmp_path)
    (tmp_path / name).unlink()
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises((Damaged, BadInput)):
        load_tokenizer(tmp_path)


def test_settings_are_sorted_and_stable(tmp_path: Path) -> None:
    save_tokenizer(data_of(byte_level()), tmp_path)
    text = (tmp_path / "tokenizer_config.json").read_text()
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_no_chat_template() -> None:
    plain = Tokenizer(dataclasses.replace(data_of(byte_level()), chat_template=""))
    with pytest.raises(ModelcError, match="no chat template"):
        plain.apply_chat_template([{"role": "user", "content": "hi"}])

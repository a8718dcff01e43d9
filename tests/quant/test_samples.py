"""Files of calibration samples, good and hostile."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Bare
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Sequence, Split, Whitespace

from modelc.bundle.tokenizer import Tokenizer
from modelc.errors import BadInput
from modelc.ir.tokenizer import TokenizerData
from modelc.quant.samples import cut_text, pick_rows, source_of
from modelc.quant.samples.cut import spread
from modelc.quant.samples.npz import rows_as_npz
from modelc.quant.samples.row import Conversation

VOCABULARY = 50
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Words w0 to w39 and two roles; the beginning of text is 49."""
    words = {f"w{index}": index for index in range(40)} | {"user": 40, "assistant": 41}
    bare = Bare(WordLevel(words, unk_token=None))
    bare.pre_tokenizer = Sequence([Split("unknown", "removed"), Whitespace()])
    return Tokenizer(TokenizerData(bare.to_str(), 49, (48,), True, TEMPLATE, {}))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(path: Path) -> list[object]:
    return list(source_of(path).read(path, VOCABULARY))


@pytest.mark.parametrize("text", ["", " \n\t", "unknown unknown"])
def test_a_text_that_tokenises_to_nothing(
    text: str, tokenizer: Tokenizer, write: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match=r"tokenise to nothing|is empty") as caught:
        cut_text(write("a.txt", text), tokenizer, 4, 8)
    assert caught.value.where.path.endswith("a.txt")


def test_a_text_is_cut(tokenizer: Tokenizer, write: Callable[..., Path]) -> None:
    path = write("a.txt", " ".join(f"w{index}" for index in range(40)))
    assert cut_text(path, tokenizer, 2, 4) == [[49, 0, 1, 2], [49, 37, 38, 39]]
    (short,) = cut_text(path, tokenizer, 2, 1000)
    assert short == [49, *range(40)]


def test_no_utf8(tokenizer: Tokenizer, write: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="not a UTF-8 text"):
        cut_text(write("a.txt", b"w1 \xff"), tokenizer, 1, 1)


def test_json_lines_of_all_kinds(tokenizer: Tokenizer, write: Callable[..., Path]) -> None:
    messages = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": "w2 w3"}]
    values = [
        "w1 w2",
        {"text": "w3", "meta": 1},
        {"content": "w4"},
        {"prompt": "w5"},
        {"messages": messages},
        {"input_ids": [6, 7]},
        {"token_ids": [8]},
        {"text": "  "},
    ]
    path = write("a.jsonl", "\n\n".join(map(json.dumps, values)))
    assert rows(path) == [
        *("w1 w2", "w3", "w4", "w5"),
        Conversation(tuple(messages)),
        *([6, 7], [8]),
    ]
    assert pick_rows(path, tokenizer, VOCABULARY, 99, 3) == [
        *([49, 1, 2], [49, 3], [49, 4], [49, 5]),
        [40, 1, 41],
        *([6, 7], [8]),
    ]
    assert len(pick_rows(path, tokenizer, VOCABULARY, 3, 3)) == 3


def test_json_lines_are_told_by_their_content(write: Callable[..., Path]) -> None:
    assert rows(write("samples.txt", '{"text": "w1"}\n')) == ["w1"]
    assert rows(write("samples", '\n "w1 w2"\n')) == ["w1 w2"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": 3}', "line 2 holds no sample"),
        ("[1, 2]", "line 2 holds no sample"),
        ('{"messages": []}', "line 2 holds no sample"),
        ('{"text": "x"', "line 2 is no JSON"),
        ("[" * 100000, "line 2 is no JSON"),
        ('{"input_ids": [1, 50]}', "line 2: 50 is no token of the vocabulary of 50"),
        ('{"input_ids": [1, -1]}', "line 2: -1 is no token"),
        ('{"input_ids": [1.5]}', r"line 2: 1\.5 is no token"),
        ('{"input_ids": [true]}', "line 2: True is no token"),
        ('{"input_ids": []}', "line 2: no tokens"),
    ],
)
def test_json_lines_that_hold_no_sample(
    line: str, message: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match=message):
        rows(write("a.jsonl", f'"w1"\n{line}\n'))


def test_rows_that_tokenise_to_nothing(tokenizer: Tokenizer, write: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="tokenise to nothing"):
        pick_rows(write("a.jsonl", '"unknown"\n'), tokenizer, VOCABULARY, 4, 8)
    with pytest.raises(BadInput, match="tokenise to nothing"):
        pick_rows(write("a.jsonl", ""), tokenizer, VOCABULARY, 4, 8)


def test_npz(tmp_path: Path) -> None:
    matrix, array = np.arange(6).reshape(2, 3), np.array([4, 5], np.int32)
    np.savez(tmp_path / "a.npz", input_ids=matrix, attention_mask=np.ones((2, 3)))
    np.savez_compressed(tmp_path / "b.npz", array, matrix.astype(np.uint8))
    assert rows(tmp_path / "a.npz") == [[0, 1, 2], [3, 4, 5]]
    assert rows(tmp_path / "b.npz") == [[4, 5], [0, 1, 2], [3, 4, 5]]
    (tmp_path / "b.npz").rename(tmp_path / "b")
    assert len(rows(tmp_path / "b")) == 3
    (tmp_path / "c.npz").write_bytes(rows_as_npz([[1, 2], [3, 4]]))
    assert rows(tmp_path / "c.npz") == [[1, 2], [3, 4]]


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def compressed(method: int = zipfile.ZIP_DEFLATED, torn: bool = False) -> bytes:
    """Return a .npz whose only entry says that it is compressed otherwise, or isn't sound."""
    stream = io.BytesIO()
    np.savez_compressed(stream, input_ids=np.arange(600))
    content = bytearray(stream.getvalue())
    directory = content.index(b"PK\x01\x02")
    for place in (8, directory + 10):
        content[place : place + 2] = method.to_bytes(2, "little")
    if torn:
        content[80:90] = bytes([0xFF] * 10)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: npz(input_ids=np.ones((2, 2))), r"float64 \[2, 2\], not token ids"),
        (lambda: npz(input_ids=np.ones((2, 2, 2), int)), "not token ids"),
        (lambda: npz(input_ids=np.array([[1, 2], [3, 77]])), "row 1 of input_ids: 77 is no"),
        (lambda: npz(input_ids=np.array([{}], object)), "not a .npz file: Object arrays"),
        (lambda: npz(input_ids=np.arange(6))[:-30], "not a .npz file"),
        (lambda: b"PK\x03\x04 no zip", "not a .npz file"),
        (lambda: compressed(method=99), "compression method is not supported"),
        (lambda: compressed(torn=True), "decompressing"),
    ],
)
def test_npz_that_is_none(
    content: Callable[[], bytes], message: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match=message):
        rows(write("a.npz", content()))


@pytest.mark.parametrize("name", ["npz", "jsonl"])
def test_more_than_calibration_can_use(
    name: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the size that a compressed array has in memory."""
    monkeypatch.setattr(f"modelc.quant.samples.{name}.MAX_BYTES", 2000)
    stream = io.BytesIO()
    np.savez_compressed(stream, input_ids=np.ones(1000, int))
    content = {"npz": stream.getvalue(), "jsonl": b'"w1"\n' * 500}[name]
    assert name == "jsonl" or len(content) < 1000
    with pytest.raises(BadInput, match="more samples than calibration can use"):
        rows(write(f"a.{name}", content))


@settings(max_examples=30)
@given(
    ids=st.lists(st.lists(st.integers(0, 49), min_size=4, max_size=4), min_size=1, max_size=5),
    kind=st.sampled_from(["<i4", "<i8", "<f4"]),
)
def test_raw_files_of_every_type(
    ids: list[list[int]], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("raw")
    for index, row in enumerate(ids):
        np.array([49, 1, 2, *row], kind).tofile(folder / f"{index}.raw")
    lines = [f"input_ids:={index}.raw mask:=mask.raw" for index in range(len(ids))]
    (folder / "list.txt").write_text("\n".join(["#outputs", "%", "", *lines]))
    assert rows(folder / "list.txt") == [[49, 1, 2, *row] for row in ids]


def test_raw_files_by_their_places(write: Callable[..., Path], tmp_path: Path) -> None:
    write("deep/1.raw", np.array([1, 2], np.int32).tobytes())
    path = write("list.txt", f"deep/1.raw\n{tmp_path}/deep/1.raw\ntoken_ids:=deep/1.raw other")
    assert rows(path) == [[1, 2]] * 3
    assert list(source_of(path).files(path)) == ["line 1", "line 2", "line 3"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("good.raw\nabsent.raw", r"line 2: .*absent\.raw can't be read: No such file"),
        ("good.raw\n.", "line 2: .* is no file"),
        ("# only\n%\n", "names no file"),
        ("good.raw other.raw", "line 1: which of 2 files"),
        ("x:=good.raw y:=good.raw", "line 1: which of 2 files"),
        ("\n\ninput_ids:= x", "line 3: which of 2 files"),
        ("good.raw\n# c\nlong.raw", r"line 3: .*long\.raw has 16 bytes, the file of line 1 8"),
        ("empty.raw", "line 1: .* has 0 bytes"),
        ("odd.raw", "line 1: .* has 7 bytes"),
        ("good.raw\nbeyond.raw", r"line 2: .*beyond\.raw holds no token ids"),
        ("good.raw\nfraction.raw", r"line 2: .*fraction\.raw holds no token ids"),
        ("nan.raw", "line 1: .* holds no token ids"),
        ("A plain text, not a list.", "line 1: which of 6 files"),
    ],
)
def test_input_lists_that_are_wrong(listed: str, message: str, write: Callable[..., Path]) -> None:
    for name, array in {
        "good": np.array([3, 4], np.int32),
        "long": np.array([3, 4, 5, 6], np.int32),
        "empty": np.array([], np.int32),
        "beyond": np.array([3, 50], np.int32),
        "fraction": np.array([3, 1.5], np.float32),
        "nan": np.array([3, np.nan], np.float32),
    }.items():
        write(f"{name}.raw", array.tobytes())
    write("odd.raw", b"1234567")
    with pytest.raises(BadInput, match=message) as caught:
        rows(write("list.txt", listed))
    assert caught.value.where.path.endswith("list.txt")


def test_an_endless_file_is_not_read(write: Callable[..., Path]) -> None:
    with pytest.raises(BadInput, match="is no file"):
        rows(write("list.txt", "/dev/zero"))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be read"):
        source_of(tmp_path / "absent")


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9])])
def test_rows_are_spread(count: int, expected: list[int]) -> None:
    assert spread(range(10), count) == expected
    assert spread(range(2), count)[: len(expected)] == [0, 1][:count]

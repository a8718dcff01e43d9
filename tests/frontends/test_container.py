"""Damaged and lying GGUF files: an error with place and hint, nothing else."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.frontends import read_source
from modelc.frontends.gguf.container import read_container

STRING, UINT8, UINT32, FLOAT32, ARRAY = 8, 0, 4, 6, 9
FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    places = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return text(name) + places


def file(
    keys: tuple[bytes, ...] = (),
    tensors: tuple[bytes, ...] = (),
    data: int = 0,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    tensor_count, key_count = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, tensor_count, key_count)
    head += b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


HUGE = 1 << 60
LIES = {
    "empty": (b"", "fewer than a header"),
    "other magic": (b"GGML" + bytes(40), "does not begin with GGUF"),
    "version 1": (file(version=1), "GGUF version 1"),
    "version 4": (file(version=4), "GGUF version 4"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "key count": (file(counts=(0, HUGE)), "keys"),
    "key count a little too large": (file(counts=(0, 9)), "past the end"),
    "tensor count": (file(counts=(HUGE, 0)), "tensors"),
    "length of a key": (file((struct.pack("<Q", HUGE),)), "past the end"),
    "length of a text": (file((key("a", STRING, struct.pack("<Q", HUGE)),)), "past the end"),
    "length of a list": (file((key("a", ARRAY, struct.pack("<IQ", UINT8, HUGE)),)), "list"),
    "length of a list of texts": (
        file((key("a", ARRAY, struct.pack("<IQ", STRING, 4_000_000)),)),
        "past the end",
    ),
    "length of a list of numbers": (
        file((key("a", ARRAY, struct.pack("<IQ", FLOAT32, 4_000_000)),)),
        "past the end",
    ),
    "list of lists": (file((key("a", ARRAY, struct.pack("<IQ", ARRAY, 1)),)), "list"),
    "type of a value": (file((key("a", 13, bytes(8)),)), "unknown type 13"),
    "type in a list": (file((key("a", ARRAY, struct.pack("<IQ", 13, 1)),)), "type 13"),
    "text not UTF-8": (file((key("a", STRING, text(b"\xff")),)), "UTF-8"),
    "key twice": (file((key("a", UINT8, b"1"), key("a", UINT8, b"1"))), "twice"),
    "alignment 0": (
        file((key("general.alignment", UINT32, struct.pack("<I", 0)),)),
        "general.alignment",
    ),
    "alignment 48": (
        file((key("general.alignment", UINT32, struct.pack("<I", 48)),)),
        "general.alignment",
    ),
    "alignment is a text": (file((key("general.alignment", STRING, text("32")),)), "alignment"),
    "no dimensions": (file((), (tensor("a", (), 0, 0),)), "0 dimensions"),
    "dimensions": (file((), (tensor("a", (1,) * 5, 0, 0),)), "5 dimensions"),
    "empty tensor": (file((), (tensor("a", (0,), 0, 0),)), "empty"),
    "size": (file((), (tensor("a", (HUGE, HUGE), 0, 0),), 64), "past the file"),
    "one element too many": (file((), (tensor("a", (17,), 0, 0),), 64), "past the file"),
    "offset": (file((), (tensor("a", (16,), 0, HUGE),), 64), "past the file"),
    "unaligned": (file((), (tensor("a", (4,), 0, 4),), 64), "'a' (F32"),
    "part of a block": (file((), (tensor("a", (33,), 8, 0),), 64), "'a' (Q8_0"),
    "unknown type": (file((), (tensor("a", (4,), 999, 0),), 64), "unknown type 999"),
    "same name": (
        file((), (tensor("a", (4,), 0, 0), tensor("a", (4,), 0, 32)), 64),
        "'a' (F32",
    ),
    "overlap": (
        file((), (tensor("a", (16,), 0, 0), tensor("b", (4,), 0, 32)), 64),
        "lies over another",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_in_little_memory(lie: str, tmp_path: Path) -> None:
    content, message = LIES[lie]
    path = tmp_path / "lie.gguf"
    path.write_bytes(content)
    read_container_once(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as caught:
            read_container(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in caught.value.message
    assert caught.value.where.path == str(path)
    assert caught.value.hint
    assert peak < 1 << 20


def read_container_once(tmp_path: Path) -> None:
    """Import what is imported on first use."""
    path = tmp_path / "sound.gguf"
    path.write_bytes(file())
    assert read_container(path).tensors == {}


def test_a_sound_file_reads_as_the_gguf_package_reads_it(gguf_of: Callable[..., Path]) -> None:
    path = gguf_of("gemma2-longrope", "Q8_0")
    found, reader = read_container(path), gguf.GGUFReader(path)
    expected = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    assert found.metadata == expected
    for tensor in reader.tensors:
        stored = found.tensors[tensor.name]
        raw = np.fromfile(path, np.uint8, stored.size, offset=stored.offset)
        np.testing.assert_array_equal(raw, tensor.data.view(np.uint8).reshape(-1))


def header_bytes(content: bytes) -> int:
    """Where the tensors' bytes begin, about: after the last name in the header."""
    return content.rindex(b"ffn_up.weight") + 64


def read_whole(path: Path) -> None:
    """Read a source and decode its weights; only BadInput may come out of it."""
    try:
        source = read_source(path)
    except BadInput as error:
        assert error.where.path and str(error)
        return
    for weight in source.weights.values():
        weight.decode()


@FUZZ
@given(st.floats(0, 1))
def test_truncation(gguf_of: Callable[..., Path], tmp_path: Path, part: float) -> None:
    content = gguf_of("llama", "Q4_0").read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(content[: int(part * (len(content) - 1))])
    with pytest.raises(BadInput):
        read_source(path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@FUZZ
@given(st.data())
def test_flipped_bytes(gguf_of: Callable[..., Path], tmp_path: Path, data: Any) -> None:
    identity = data.draw(st.sampled_from(["llama-llama3", "phi3-longrope", "gemma2", "qwen2-yarn"]))
    content = bytearray(gguf_of(identity, "Q4_0").read_bytes())
    # The vocabulary makes most of the header; the interesting bytes lie before and after it.
    words = content.index(b"tokenizer.ggml.tokens"), content.index(b"tokenizer.ggml.token_type")
    end = header_bytes(bytes(content))
    places = st.one_of(
        st.integers(0, words[0] + 64), st.integers(words[1], end), st.integers(0, end)
    )
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped.gguf"
    path.write_bytes(content)
    read_whole(path)

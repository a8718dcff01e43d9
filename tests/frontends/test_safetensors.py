"""Damaged and lying safetensors files: an error with place and hint, nothing else."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from modelc.errors import BadInput
from modelc.frontends import read_source
from modelc.frontends.huggingface.safetensors import read_header

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def file(header: Any, data: int = 16) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(data)


def row(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16), **more: Any) -> bytes:
    return file({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}})


LIES = {
    "empty": (b"", "header of 0 bytes"),
    "short": (b"\x01\x00", "does not fit"),
    "length": ((1 << 62).to_bytes(8, "little") + bytes(64), "does not fit"),
    "length a little too large": ((65).to_bytes(8, "little") + bytes(64), "does not fit"),
    "not JSON": (file(b"{'a': 1}"), "not valid JSON"),
    "not UTF-8": (file(b'{"\xff": 1}'), "not valid JSON"),
    "nested": (file(b'{"a":' * 50_000), "not valid JSON"),
    "a list": (file([1]), "not a JSON object"),
    "name twice": (
        file(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32"}}'),
        "twice",
    ),
    "row": (file({"a": 1}), "makes no sense"),
    "control characters": (file({"a\x1b[2J": 1}), "makes no sense"),
    "dtype": (row("F3"), "unknown type 'F3'"),
    "dtype is a list": (row(["F32"]), "makes no sense"),
    "shape": (row(shape=[-4]), "makes no sense"),
    "shape of a float": (row(shape=[4.0]), "makes no sense"),
    "shape of a truth": (row(shape=[4, True]), "makes no sense"),
    "dimensions": (row(shape=[1] * 9), "makes no sense"),
    "size": (row(shape=[1 << 40, 1 << 40]), "bytes"),
    "offsets": (row(offsets=[16, 0]), "bytes"),
    "three offsets": (row(offsets=[0, 8, 16]), "makes no sense"),
    "another key": (row(device="gpu"), "makes no sense"),
    "past the end": (row(shape=[8], offsets=[0, 32]), "but the file has"),
    "hole": (row(shape=[2], offsets=[8, 16]), "starts at byte"),
    "rest": (row(shape=[2], offsets=[0, 8]), "end at byte"),
    "overlap": (
        file(
            {
                "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
            }
        ),
        "starts at byte",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_in_little_memory(lie: str, tmp_path: Path) -> None:
    content, message = LIES[lie]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as caught:
            read_header(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in caught.value.message
    assert caught.value.where.path == str(path)
    assert caught.value.hint
    assert peak < 1 << 23


def test_a_sound_file_reads_as_the_safetensors_package_reads_it(
    folder_of: Callable[[str], Path],
) -> None:
    path = folder_of("llama") / "model.safetensors"
    content = path.read_bytes()
    with safe_open(path, "pt") as reader:
        found = {tensor.name: tensor for tensor in read_header(path)}
        assert set(found) == set(reader.keys())
        for name, tensor in found.items():
            values = reader.get_tensor(name)
            assert tensor.shape == tuple(values.shape)
            raw = content[tensor.offset : tensor.offset + tensor.size]
            assert raw == values.numpy().tobytes()


def copy_with(folder: Path, target: Path, content: bytes) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    (target / "model.safetensors").write_bytes(content)
    return target


@FUZZ
@given(st.floats(0, 1))
def test_truncation(folder_of: Callable[[str], Path], tmp_path: Path, part: float) -> None:
    content = (folder_of("llama") / "model.safetensors").read_bytes()
    cut = content[: int(part * (len(content) - 1))]
    with pytest.raises(BadInput):
        read_source(copy_with(folder_of("llama"), tmp_path / "cut", cut))


@FUZZ
@given(st.data())
def test_flipped_bytes(folder_of: Callable[[str], Path], tmp_path: Path, data: Any) -> None:
    content = bytearray((folder_of("llama-bias") / "model.safetensors").read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    places = st.one_of(st.integers(0, 7), st.integers(8, end - 1))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(places)] = data.draw(st.integers(0, 255))
    folder = copy_with(folder_of("llama-bias"), tmp_path / "flipped", bytes(content))
    try:
        source = read_source(folder)
    except BadInput as error:
        assert str(error)
        return
    for weight in source.weights.values():
        weight.decode()

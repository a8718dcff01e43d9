"""Files that are no context binaries are told apart, in a child that may crash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelc.errors import Damaged, ModelcError, ToolFailed
from modelc.targets.snapdragon.binary import read_binary
from modelc.targets.snapdragon.simulate import run_graph

pytest.importorskip("onnxruntime_qnn", reason="libQnnSystem is not here")
pytestmark = pytest.mark.simulator


@pytest.mark.parametrize("content", [b"", b"not a binary", bytes(4096)])
def test_other_files_are_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "decoder.bin"
    path.write_bytes(content)
    with pytest.raises(Damaged) as caught:
        read_binary(path, workdir=tmp_path / "work")
    assert caught.value.where.path == str(path)


def copied(tiny: Callable[[str], object], folder: Path) -> Path:
    """A twin and its wrapper, to be damaged."""
    wrapper = tiny("w8a16").wrappers[1]
    for path in (wrapper, wrapper.with_suffix(".bin")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / wrapper.name


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_truncated_binary(kept: float, tiny: Callable[[str], object], tmp_path: Path) -> None:
    wrapper = copied(tiny, tmp_path)
    binary = wrapper.with_suffix(".bin")
    binary.write_bytes(binary.read_bytes()[: int(kept * binary.stat().st_size)])
    with pytest.raises((Damaged, ToolFailed)) as caught:
        run_graph(wrapper, [{}], workdir=tmp_path / "work", timeout_s=60)
    assert caught.value.hint or caught.value.where.path


@pytest.mark.parametrize("place", [0, 64, 4096])
def test_an_overwritten_binary(place: int, tiny: Callable[[str], object], tmp_path: Path) -> None:
    """Anything but a hang or a crash of our own: the vendor's library trusts the file."""
    wrapper = copied(tiny, tmp_path)
    binary = wrapper.with_suffix(".bin")
    data = bytearray(binary.read_bytes())
    data[place : place + 32] = b"\xff" * 32
    binary.write_bytes(data)
    try:
        read_binary(binary, workdir=tmp_path / "work")
    except ModelcError as error:
        assert isinstance(error, Damaged | ToolFailed)


def test_a_wrapper_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "token.onnx").write_bytes(b"no protobuf\xff")
    with pytest.raises(Damaged, match="not the wrapper of a context binary"):
        run_graph(tmp_path / "token.onnx", [], workdir=tmp_path, timeout_s=60)

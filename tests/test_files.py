import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelc.errors import BadInput, Damaged
from modelc.files import (
    check_files,
    copy_hashed,
    copy_in_kernel,
    describe_folder,
    folder_files,
    is_safe_name,
    write_atomic,
)
from modelc.hashing import file_digest


@given(st.text(st.sampled_from("ab./\\:\0"), max_size=8))
def test_a_safe_name_stays_inside(name: str) -> None:
    if is_safe_name(name):
        home = Path("/home/x")
        joined = Path(os.path.normpath(home / name))
        assert joined != home
        assert joined.is_relative_to(home)
        assert joined.relative_to(home).as_posix() == name


@pytest.mark.parametrize("name", ["a", "a/b.c", "a..b", ".hidden", "graphs/model.onnx.data"])
def test_plain_names_are_safe(name: str) -> None:
    assert is_safe_name(name)


@pytest.mark.parametrize("size", [0, 1, (1 << 22) + 3])
def test_copies_are_equal(tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    hashed = copy_hashed(source, tmp_path / "hashed")
    assert (hashed.size, hashed.sha256) == (size, file_digest(source))
    assert copy_in_kernel(source, tmp_path / "kernel") == size
    assert file_digest(tmp_path / "kernel") == file_digest(tmp_path / "hashed") == hashed.sha256


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_copies_where_the_kernel_can_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    (tmp_path / "source").write_bytes(b"abc")
    assert copy_in_kernel(tmp_path / "source", tmp_path / "copy") == 3
    assert (tmp_path / "copy").read_bytes() == b"abc"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_described_and_checked(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "d").write_text("1")
    (tmp_path / "a").write_text("22")
    digests = describe_folder(tmp_path)
    assert [(name, file.size) for name, file in digests.items()] == [("a", 2), ("b/c/d", 1)]
    check_files(tmp_path, digests, contents=True)
    (tmp_path / "a").write_text("33")
    check_files(tmp_path, digests, contents=False)
    with pytest.raises(Damaged, match="SHA-256"):
        check_files(tmp_path, digests, contents=True)


@pytest.mark.parametrize("kind", ["link", "pipe", "linked folder"])
def test_only_plain_files_are_taken(tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/etc" if kind == "linked folder" else "/etc/passwd")
    with pytest.raises(BadInput, match="not a plain file"):
        folder_files(tmp_path)

"""Bundles are whole or absent, whatever happens meanwhile."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modelc.bundle import exchange
from modelc.bundle.manifest import MANIFEST
from modelc.bundle.read import open_bundle
from modelc.bundle.write import Draft, FromFile, write_bundle
from modelc.errors import BadInput, Damaged, ModelcError
from modelc.files import FileDigest
from modelc.hashing import file_digest

MakeDraft = Callable[..., Draft]


def weights_of(place: Path) -> str:
    return open_bundle(place).file("graphs/model.bin").read_text()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_and_read(make_draft: MakeDraft, tmp_path: Path) -> None:
    draft = make_draft()
    written = write_bundle(tmp_path / "out" / "b.modelc", draft)
    opened = open_bundle(tmp_path / "out" / "b.modelc")
    assert opened.manifest == written
    assert written.digest == json.loads((opened.path / MANIFEST).read_text())["digest"]
    assert dataclasses.replace(written, files={}, modelc="", digest="") == draft.manifest
    assert sorted(written.files) == ["config.json", "graphs/model.bin", "graphs/model.onnx"]
    for name, entry in written.files.items():
        path = opened.file(name)
        assert (path.stat().st_size, file_digest(path)) == (entry.size, entry.sha256)
    assert names_in(tmp_path / "out") == ["b.modelc"]


def test_same_draft_same_bytes(make_draft: MakeDraft, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_bundle(tmp_path / name, make_draft())
    one, two = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert one == two


def test_a_bundle_is_replaced(make_draft: MakeDraft, tmp_path: Path) -> None:
    place = tmp_path / "out" / "b"
    for text in ("old", "new"):
        write_bundle(place, make_draft(text))
    assert weights_of(place) == "new"
    assert names_in(tmp_path / "out") == ["b"]


def test_without_a_swap_of_the_kernel_too(
    make_draft: MakeDraft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)
    place = tmp_path / "out" / "b"
    for text in ("old", "new"):
        write_bundle(place, make_draft(text))
    assert weights_of(place) == "new"
    assert names_in(tmp_path / "out") == ["b"]


def test_a_bundle_that_is_already_there_is_kept(make_draft: MakeDraft, tmp_path: Path) -> None:
    draft = with_digests(make_draft())
    place = tmp_path / "b"
    first = write_bundle(place, draft)
    inode = place.stat().st_ino
    assert write_bundle(place, draft) == first
    assert place.stat().st_ino == inode
    (place / "graphs" / "model.bin").write_text("WEIGHTS")  # same size
    write_bundle(place, draft)
    assert weights_of(place) == "weights"


def with_digests(draft: Draft) -> Draft:
    known: dict[str, FromFile | bytes] = {}
    for name, content in draft.files.items():
        if isinstance(content, FromFile):
            digest = FileDigest(content.path.stat().st_size, file_digest(content.path))
            known[name] = FromFile(content.path, digest)
        else:
            known[name] = content
    return dataclasses.replace(draft, files=known)


def test_a_file_of_another_size_than_its_digest_is_refused(
    make_draft: MakeDraft, tmp_path: Path
) -> None:
    draft = with_digests(make_draft())
    Path(tmp_path / "weights-weights.bin").write_text("longer than it was")
    with pytest.raises(Damaged):
        write_bundle(tmp_path / "out" / "b", draft)
    assert names_in(tmp_path / "out") == []


def test_an_empty_folder_is_filled(make_draft: MakeDraft, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write_bundle(tmp_path / "b", make_draft())
    assert weights_of(tmp_path / "b") == "weights"


def test_a_link_stays_a_link(make_draft: MakeDraft, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_bundle(tmp_path / "link", make_draft())
    assert (tmp_path / "link").is_symlink()
    assert weights_of(tmp_path / "real") == "weights"


@pytest.mark.parametrize("content", ["a file", "a folder", "a manifest of others", "more files"])
def test_what_is_no_bundle_is_left_alone(
    make_draft: MakeDraft, tmp_path: Path, content: str
) -> None:
    place = tmp_path / "precious"
    if content == "a file":
        precious = place
    elif content == "a manifest of others":
        place.mkdir()
        precious = place / MANIFEST
    else:
        if content == "more files":
            write_bundle(place, make_draft())
        precious = place / "notes" / "thesis.txt"
        precious.parent.mkdir(parents=True)
    precious.write_text("{}")
    with pytest.raises(BadInput) as caught:
        write_bundle(place, make_draft("other"))
    assert precious.read_text() == "{}"
    assert "another -o" in caught.value.hint
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", ".", "a//b", "manifest.json"])
def test_names_that_are_none_are_refused(make_draft: MakeDraft, tmp_path: Path, name: str) -> None:
    draft = make_draft()
    with pytest.raises(BadInput, match="no name"):
        write_bundle(tmp_path / "b", dataclasses.replace(draft, files={**draft.files, name: b""}))


def test_a_full_disk_leaves_the_old_bundle(
    make_draft: MakeDraft, tiny_disk: Path, tmp_path: Path
) -> None:
    place = tiny_disk / "b"
    write_bundle(place, make_draft("old"))
    draft = make_draft("new")
    big = tmp_path / "big"
    big.write_bytes(bytes(8 << 20))
    for content in (FromFile(big), FromFile(big, FileDigest(8 << 20, file_digest(big)))):
        full = dataclasses.replace(draft, files={**draft.files, "big": content})
        with pytest.raises(ModelcError, match="no space left") as caught:
            write_bundle(place, full)
        assert "-o DIR" in caught.value.hint
        assert weights_of(place) == "old"
        assert names_in(tiny_disk) == ["b"]


def in_a_child_killed_at(moment: int, work: Callable[[], Any]) -> bool:
    """Do the work in a fork that is killed at its `moment`-th call of the system (as Python's
    audit events tell them); whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        calls = 0

        def count(event: str, arguments: object) -> None:
            nonlocal calls
            if event == "open" or event.startswith(("os.", "ctypes.", "shutil.")):
                calls += 1
                if calls == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork")
@pytest.mark.parametrize("swap", [True, False])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_bundle(
    make_draft: MakeDraft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    if not swap:
        monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)
    place = tmp_path / "out" / "b"
    old, new = make_draft("old"), make_draft("new")
    write_bundle(place, old)
    seen = set()
    moment = 1
    while in_a_child_killed_at(moment, lambda: write_bundle(place, new)):
        if swap:
            assert place.is_dir()
        seen.add(weights_of(place))  # checks every file
        write_bundle(place, old)
        assert names_in(tmp_path / "out") == ["b"]
        moment += 1
    assert weights_of(place) == "new"
    assert seen == {"old", "new"}
    assert moment > 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a fork")
def test_a_kill_at_any_moment_of_the_first_write(make_draft: MakeDraft, tmp_path: Path) -> None:
    draft, moment, place = make_draft(), 1, tmp_path / "out" / "b"
    while in_a_child_killed_at(moment, lambda: write_bundle(place, draft)):
        assert not place.exists() or weights_of(place) == "weights"
        shutil.rmtree(place, ignore_errors=True)
        moment += 1
    assert names_in(place.parent) == ["b"]
    assert moment > 20


@pytest.mark.parametrize("swap", [True, False])
def test_two_writers_of_one_bundle_take_turns(
    make_draft: MakeDraft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    if not swap:
        monkeypatch.setattr(exchange, "_exchange", lambda one, other: False)
    place = tmp_path / "out" / "b"
    drafts = [make_draft(str(index)) for index in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda draft: write_bundle(place, draft), drafts))
    assert weights_of(place) in {str(index) for index in range(8)}
    assert names_in(tmp_path / "out") == ["b"]

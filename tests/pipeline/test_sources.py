import os
from pathlib import Path

import pytest

from modelc.hashing import file_digest
from modelc.pipeline import sources as module
from modelc.pipeline.sources import Sources
from modelc.pipeline.store import Store


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose bytes were read to hash them."""
    seen: list[Path] = []

    def digest(path: Path) -> str:
        seen.append(path)
        return file_digest(path)

    monkeypatch.setattr(module, "readable_digest", digest)
    monkeypatch.setattr(module, "SETTLED_NS", 0)
    return seen


def test_a_file_is_hashed_once_until_it_changes(
    store: Store, source: Path, hashed: list[Path]
) -> None:
    first = Sources(store, {"source": source}).digests("source")
    assert first == {"": file_digest(source)}
    again = Sources(Store(store.root.parent), {"source": source}).digests("source")
    assert (again, hashed) == (first, [source])
    source.write_text("abd")
    assert Sources(store, {"source": source}).digests("source") == {"": file_digest(source)}


def test_a_file_replaced_with_its_old_time_and_size_is_seen(
    store: Store, source: Path, hashed: list[Path]
) -> None:
    Sources(store, {"source": source}).digests("source")
    before = source.stat()
    source.write_text("xyz")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Sources(store, {"source": source}).digests("source") == {"": file_digest(source)}


def test_a_file_changed_just_now_is_not_remembered(
    store: Store, source: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED_NS", 10**15)
    for _ in range(2):
        Sources(store, {"source": source}).digests("source")
    assert len(hashed) == 2


def test_a_damaged_memory_is_no_memory(store: Store, source: Path, hashed: list[Path]) -> None:
    expected = Sources(store, {"source": source}).digests("source")
    for path in (store.root / "digests").iterdir():
        path.write_text('[[1, 2], "zz"]')
    assert Sources(store, {"source": source}).digests("source") == expected


def test_a_folder_counts_its_plain_files_links_followed(
    store: Store, tmp_path: Path, source: Path
) -> None:
    folder = tmp_path / "hf"
    (folder / ".cache").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / ".hidden").write_text("x")
    (folder / "model.safetensors").symlink_to(source)
    digests = Sources(store, {"source": folder}).digests("source")
    assert list(digests) == ["config.json", "model.safetensors"]
    assert digests["model.safetensors"] == file_digest(source)

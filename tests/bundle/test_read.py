"""Nothing is opened that is not what was written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelc.bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, dump_manifest, load_manifest
from modelc.bundle.read import open_bundle
from modelc.bundle.write import Draft, write_bundle
from modelc.errors import BadInput, Damaged, ModelcError

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def place(make_draft: Callable[..., Draft], tmp_path: Path) -> Path:
    write_bundle(tmp_path / "b", make_draft())
    return tmp_path / "b"


def edit(place: Path, change: Edit) -> None:
    document = json.loads((place / MANIFEST).read_text())
    change(document)
    (place / MANIFEST).write_text(json.dumps(document))


def test_the_manifest_says_what_it_was_made_of(place: Path) -> None:
    manifest = open_bundle(place).manifest
    assert manifest.graphs[0].outputs[0].shape == ("batch", 1, 4)
    assert manifest.source.sha256 == {"": "ab" * 32}
    assert manifest.size == sum(p.stat().st_size for p in place.rglob("*.*")) - len(
        dump_manifest(manifest)
    )


@pytest.mark.parametrize("name", ["graphs/model.onnx", "config.json"])
def test_a_tampered_file(place: Path, name: str) -> None:
    data = bytearray((place / name).read_bytes())
    data[0] ^= 1
    (place / name).write_bytes(data)
    with pytest.raises(Damaged, match="SHA-256") as caught:
        open_bundle(place)
    assert caught.value.where.path == str(place / name)
    assert open_bundle(place, check_contents=False).path == place  # only if asked for


def test_a_truncated_file_is_found_without_reading(place: Path) -> None:
    (place / "config.json").write_bytes(b"")
    with pytest.raises(Damaged, match="0 bytes instead of 2"):
        open_bundle(place, check_contents=False)


def test_a_missing_file(place: Path) -> None:
    (place / "config.json").unlink()
    with pytest.raises(Damaged, match="missing"):
        open_bundle(place)


def test_a_file_that_became_a_folder(place: Path) -> None:
    (place / "config.json").unlink()
    (place / "config.json").mkdir()
    with pytest.raises(Damaged, match="missing"):
        open_bundle(place)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_out_of_the_bundle(place: Path, tmp_path: Path, what: str) -> None:
    (tmp_path / "outside").mkdir()
    inside = place / ("config.json" if what == "file" else "graphs")
    inside.rename(tmp_path / "outside" / "moved")
    inside.symlink_to(tmp_path / "outside" / "moved")
    with pytest.raises(Damaged, match="outside its folder"):
        open_bundle(place)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "graphs/../../x", "a\\..\\b", "C:x", MANIFEST, ""]
)
def test_a_manifest_that_names_what_lies_outside(place: Path, name: str) -> None:
    edit(place, lambda document: document["files"].update({name: document["files"]["config.json"]}))
    with pytest.raises(Damaged, match="outside the bundle"):
        open_bundle(place)


def test_a_newer_bundle(place: Path) -> None:
    edit(place, lambda document: document.update(format_version=2, unheard_of=True))
    with pytest.raises(BadInput, match="format 2; this modelc reads up to 1") as caught:
        open_bundle(place)
    assert "upgrade modelc" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("target"),
        lambda d: d.update(target=3),
        lambda d: d.update(unheard_of=True),
        lambda d: d.update(format_version="1"),
        lambda d: d.update(format_version=True),
        lambda d: d.update(format_version=0),
        lambda d: d.update(files=[]),
        lambda d: d["files"]["config.json"].pop("sha256"),
        lambda d: d["files"]["config.json"].update(size="2"),
        lambda d: d["graphs"][0].update(file="none.onnx"),
        lambda d: d["graphs"][0]["outputs"][0].update(shape=[1.5]),
    ],
)
def test_a_manifest_that_is_not_ours_in_some_place(place: Path, change: Edit) -> None:
    edit(place, change)
    with pytest.raises(Damaged, match="manifest"):
        open_bundle(place)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 200_000, b"{}" * MAX_MANIFEST_BYTES])
def test_a_manifest_that_is_no_json(place: Path, data: bytes) -> None:
    (place / MANIFEST).write_bytes(data)
    with pytest.raises(Damaged):
        open_bundle(place)


@pytest.mark.parametrize("data", ["{}", "[]", '{"format": "another"}'])
def test_a_manifest_of_others(place: Path, data: str) -> None:
    (place / MANIFEST).write_text(data)
    with pytest.raises(BadInput, match="not a manifest of modelc"):
        open_bundle(place)


def test_a_folder_without_manifest_and_no_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match="not a bundle"):
            open_bundle(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=100)
@given(st.data())
def test_any_value_in_any_place_is_accepted_or_refused_as_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("b")
    document = {
        "format": "modelc bundle",
        "format_version": 1,
        "modelc": "1",
        "target": "cpu",
        "runtime": "cpu",
        "source": {"name": "m", "sha256": {}},
        "recipe": {},
        "tools": {},
        "metrics": {},
        "settings": {},
        "graphs": [],
        "files": {},
    }
    name = data.draw(st.sampled_from(sorted(document)))
    document[name] = data.draw(JSON)
    (folder / MANIFEST).write_text(json.dumps(document))
    try:
        load_manifest(folder)
    except ModelcError:
        return
    assert name in {"modelc", "target", "runtime", "recipe", "tools", "metrics", "settings"} or (
        document[name] in ([], {}, 1) or name in {"source", "files", "graphs"}
    )

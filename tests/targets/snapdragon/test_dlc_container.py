"""The container reader, against Python's zipfile as the writer, and against damage."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelc.errors import Damaged
from modelc.targets.snapdragon.dlc_container import read_member, read_members

NAMES = st.lists(
    st.from_regex(r"[a-z]{1,6}(\.[a-z0-9]{1,4})?(/[a-z]{1,4})?", fullmatch=True),
    max_size=4,
    unique=True,
)
FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def container(contents: dict[str, bytes], comment: bytes = b"", zip64: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.comment = comment
        for name, data in contents.items():
            with file.open(name, "w", force_zip64=zip64) as member:
                member.write(data)
    return stream.getvalue()


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "model.dlc"
    path.write_bytes(data)
    return path


@FEW
@given(
    names=NAMES,
    data=st.data(),
    comment=st.binary(max_size=8) | st.just(b"..PK\5\6" + bytes(20)),
    zip64=st.booleans(),
)
def test_what_zipfile_wrote(
    names: list[str], data: st.DataObject, comment: bytes, zip64: bool, tmp_path: Path
) -> None:
    contents = {name: data.draw(st.binary(max_size=40)) for name in names}
    path = saved(tmp_path, container(contents, comment, zip64))
    members = read_members(path)
    assert {m.name: read_member(path, m, 40) for m in members} == contents
    assert [m.name for m in members] == list(contents)


@FEW
@given(data=st.data())
def test_a_changed_byte(data: st.DataObject, tmp_path: Path) -> None:
    """Damaged, or members that lie inside the file: nothing else."""
    whole = bytearray(container({"a": b"1234", "bc": b"56"}))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    path = saved(tmp_path, bytes(whole))
    try:
        members = read_members(path)
    except Damaged:
        return
    assert all(0 <= m.offset <= m.offset + m.size <= len(whole) for m in members)


def test_cut_short_anywhere(tmp_path: Path) -> None:
    whole = container({"a": b"1234", "bc": b"56"}, b"comment", zip64=True)
    for length in range(len(whole)):
        with pytest.raises(Damaged, match="not a DLC"):
            read_members(saved(tmp_path, whole[:length]))


@pytest.mark.parametrize("name", ["../up", "/root", "a/../b", "a\\b", "c:d", "a//b"])
def test_names_that_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="a member is named"):
        read_members(saved(tmp_path, container({name: b"1"})))


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (20, "<L", 5, "is compressed"),  # packed size
        (20, "<2L", (5000, 5000), "runs into what follows"),
        (20, "<2L", (0xFFFFFFFF, 0xFFFFFFFF), "ZIP64 field is missing"),
        (42, "<L", 1 << 30, "cut short"),  # offset of the local header
        (42, "<L", 1, "not where its directory says"),
        (10, "<H", 8, "is compressed"),
        (8, "<H", 1, "or encrypted"),
        (30, "<H", 60000, "directory is cut short"),  # length of the extra field
    ],
)
def test_a_directory_that_lies(
    at: int, layout: str, value: int | tuple[int, int], message: str, tmp_path: Path
) -> None:
    whole = bytearray(container({"a": b"1234"}))
    values = value if isinstance(value, tuple) else (value,)
    struct.pack_into(layout, whole, whole.index(b"PK\1\2") + at, *values)
    with pytest.raises(Damaged, match=message):
        read_members(saved(tmp_path, bytes(whole)))


@pytest.mark.parametrize(
    ("at", "layout", "value", "message"),
    [
        (10, "<H", 3, "has 1 entries, not 3"),
        (12, "<L", 1 << 30, "directory has 1073741824 bytes"),
        (16, "<L", 1 << 30, "lies outside"),
        (4, "<H", 1, "volumes"),
        (20, "<H", 9, "has no directory"),
        (12, "<L", 0xFFFFFFFF, "ZIP64"),
    ],
)
def test_an_end_that_lies(at: int, layout: str, value: int, message: str, tmp_path: Path) -> None:
    whole = bytearray(container({"a": b"1234"}))
    struct.pack_into(layout, whole, whole.index(b"PK\5\6") + at, value)
    with pytest.raises(Damaged, match=message):
        read_members(saved(tmp_path, bytes(whole)))


def test_two_of_one_name_and_one_in_another(tmp_path: Path) -> None:
    twice = container({"a": b"1234", "b": b"5678"}).replace(b"b", b"a")
    with pytest.raises(Damaged, match="two members are named a"):
        read_members(saved(tmp_path, twice))
    nested = bytearray(container({"a": b"1234" * 20, "b": b"5678"}))
    first = nested.index(b"PK\1\2")
    struct.pack_into("<2L", nested, first + 20, 120, 120)
    with pytest.raises(Damaged, match="a of 120 bytes runs into"):
        read_members(saved(tmp_path, bytes(nested)))


def test_a_member_larger_than_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, container({"a": b"12345"}))
    with pytest.raises(Damaged, match="a has 5 bytes"):
        read_member(path, read_members(path)[0], 4)

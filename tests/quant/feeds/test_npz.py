import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelc.errors import BadInput
from modelc.quant.feeds import InputSpec, npz, open_feeds

SPECS = (
    InputSpec("ids", np.dtype(np.int64), (2, 3)),
    InputSpec("mask", np.dtype(np.float32), (2, 3)),
)


def save(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("shape", [(4, 2, 3), (8, 3)])
def test_samples_lie_along_the_first_axis(tmp_path: Path, shape: tuple[int, ...]) -> None:
    ids = np.arange(24).reshape(shape)
    path = save(tmp_path / "x.npz", ids=ids, mask=np.ones((4, 2, 3), np.float32), labels=ids)
    feeds = list(open_feeds(path, SPECS))
    assert len(feeds) == 4
    np.testing.assert_array_equal(feeds[1]["ids"], np.arange(6, 12).reshape(2, 3))


def test_one_sample(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", ids=np.ones((2, 3), np.int32), mask=np.ones((2, 3), np.uint8))
    (feed,) = open_feeds(path, SPECS)
    assert feed["ids"].dtype == np.int64 and feed["mask"].dtype == np.float32


@pytest.mark.parametrize(
    ("ids", "mask", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 3)), r"the array of ids int64\[2, 3\] is \[2, 4\]"),
        (np.ones((3, 3)), np.ones((2, 3)), r"is \[3, 3\]"),
        (np.ones((4, 3)), np.ones((2, 3)), "ids has 2, mask has 1"),
        (np.ones((0, 2, 3)), np.ones((0, 2, 3)), r"is \[0, 2, 3\]"),
        (np.full((2, 3), 0.5), np.ones((2, 3)), "sample 0: ids .*without loss"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, ids: np.ndarray, mask: np.ndarray, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        list(open_feeds(save(tmp_path / "x.npz", ids=ids, mask=mask), SPECS))


def test_a_missing_array(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no array 'mask'") as error:
        list(open_feeds(save(tmp_path / "x.npz", ids=np.ones((2, 3)), masks=np.ones(3)), SPECS))
    assert "masks" in error.value.hint


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, ids=np.array([{}], dtype=object), mask=np.ones((2, 3)), allow_pickle=True)
    with pytest.raises(BadInput, match=r"not a \.npz file"):
        list(open_feeds(path, SPECS))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ids.npy", pickle.dumps([1]))
    with pytest.raises(BadInput):
        list(open_feeds(path, SPECS))


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, ids=np.zeros((100, 2, 3)), mask=np.zeros((100, 2, 3)))
    monkeypatch.setattr(npz, "MAX_BYTES", 1000)
    with pytest.raises(BadInput, match=r"more than a \.npz may hold"):
        list(open_feeds(path, SPECS))


@given(st.data())
def test_damage_is_bad_input(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = save(tmp_path_factory.mktemp("npz") / "x.npz", ids=np.ones((2, 3)), mask=np.ones((2, 3)))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        feeds = list(npz.read(path, SPECS))
    except BadInput:
        return
    assert all(feed["ids"].shape == (2, 3) for feed in feeds)

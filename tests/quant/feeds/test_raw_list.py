from pathlib import Path

import numpy as np
import pytest

from modelc.errors import BadInput
from modelc.quant.feeds import InputSpec, files_of, open_feeds

SPECS = (
    InputSpec("ids", np.dtype(np.int64), (1, 4)),
    InputSpec("pixels", np.dtype(np.uint8), (1, 2, 2)),
)
IDS = np.array([[1, 2, 3, 4]], np.int64)
PIXELS = np.array([[[0, 50], [100, 255]]], np.uint8)


def write(folder: Path, text: str) -> Path:
    (folder / "ids.raw").write_bytes(IDS.tobytes())
    (folder / "ids32.raw").write_bytes(IDS.astype(np.float32).tobytes())
    (folder / "pixels.raw").write_bytes(PIXELS.tobytes())
    (folder / "pixels32.raw").write_bytes(PIXELS.astype(np.float32).tobytes())
    (folder / "half.raw").write_bytes(np.full(4, 0.5, np.float32).tobytes())
    (folder / "short.raw").write_bytes(bytes(10))
    path = folder / "list.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "line",
    [
        "ids.raw pixels.raw",
        "pixels:=pixels.raw ids:=ids.raw",
        "ids32.raw pixels32.raw",
        "%output\n# a comment\n\n  ids:=ids32.raw\tpixels:=pixels.raw  ",
    ],
)
def test_a_line_is_a_feed(tmp_path: Path, line: str) -> None:
    (feed,) = open_feeds(write(tmp_path, line), SPECS)
    assert feed["ids"].dtype == np.int64 and feed["pixels"].dtype == np.uint8
    np.testing.assert_array_equal(feed["ids"], IDS)
    np.testing.assert_array_equal(feed["pixels"], PIXELS)


def test_int32_told_from_float32(tmp_path: Path) -> None:
    spec = InputSpec("ids", np.dtype(np.int32), (1, 4))
    for dtype in (np.int32, np.float32):
        (tmp_path / "x.raw").write_bytes(IDS.astype(dtype).tobytes())
        (tmp_path / "list").write_text("x.raw")
        (feed,) = open_feeds(tmp_path / "list", [spec])
        np.testing.assert_array_equal(feed["ids"], IDS)


def test_feeds_come_one_at_a_time(tmp_path: Path) -> None:
    feeds = open_feeds(write(tmp_path, "ids.raw pixels.raw\nids.raw gone.raw"), SPECS)
    assert set(next(feeds)) == {"ids", "pixels"}
    with pytest.raises(BadInput, match=r"line 2: there is no file .*gone\.raw"):
        next(feeds)


def test_a_limit(tmp_path: Path) -> None:
    path = write(tmp_path, "ids.raw pixels.raw\nids.raw gone.raw")
    assert len(list(open_feeds(path, SPECS, limit=1))) == 1


def test_the_files_of_a_list(tmp_path: Path) -> None:
    path = write(tmp_path, "ids.raw pixels.raw")
    assert files_of(path, SPECS) == [path, tmp_path / "ids.raw", tmp_path / "pixels.raw"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ids.raw", "line 1 names 1 files, and the model has 2 inputs"),
        ("ids.raw pixels.raw\nids:=ids.raw ids:=ids.raw", "line 2: 'ids' is named twice"),
        ("ids.raw idz:=pixels.raw", "line 1: 'idz' is no input of the model"),
        ("short.raw pixels.raw", "line 1: .*10 bytes; ids .* takes 32, or 16 as float32"),
        ("ids.raw half.raw", "line 1: pixels is uint8, and .*can't become it without loss"),
        ("ids.raw pixels:=", "line 1: no file for pixels"),
        ("ids.raw .", "line 1: there is no file"),
        ("", "names no file"),
        ("# nothing", "names no file"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        list(open_feeds(write(tmp_path, text), SPECS))


def test_not_a_text(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="neither an input list"):
        list(open_feeds(tmp_path / "list", SPECS))


def test_no_such_path(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't be read: No such file"):
        list(open_feeds(tmp_path / "gone", SPECS))

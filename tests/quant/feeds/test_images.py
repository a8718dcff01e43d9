import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelc.errors import BadInput, Missing
from modelc.quant.feeds import InputSpec, Preprocess, files_of, open_feeds, read_preprocess
from modelc.quant.feeds import images as images_module

NCHW = (InputSpec("image", np.dtype(np.float32), (1, 3, 4, 4)),)
NHWC = (InputSpec("image", np.dtype(np.uint8), (1, 4, 4, 3)),)
GRAY = (InputSpec("image", np.dtype(np.float32), (1, 1, 4, 4)),)

needs_pillow = pytest.mark.skipif(
    importlib.util.find_spec("PIL") is None, reason="Pillow is not installed"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Red on the left, blue on the right, 8 wide and 4 high; and a grey square."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, :4, 0], pixels[:, 4:, 2] = 255, 255
    image.fromarray(pixels).save(tmp_path / "b.png")
    image.fromarray(np.full((4, 4), 128, np.uint8)).save(tmp_path / "a.jpg", quality=95)
    (tmp_path / "notes.md").write_text("not an image")
    return tmp_path


def test_images_by_name(folder: Path) -> None:
    (folder / "preprocess.toml").write_text(
        'mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\nfilter = "nearest"\n'
    )
    grey, two = (feed["image"] for feed in open_feeds(folder, NCHW))
    assert grey.shape == two.shape == (1, 3, 4, 4) and two.dtype == np.float32
    np.testing.assert_allclose(grey, 128 / 255 * 2 - 1, atol=1e-6)
    # The middle 4 of 8 columns: two red, two blue.
    np.testing.assert_array_equal(two[0, :, 0], [[1, 1, -1, -1], [-1] * 4, [-1, -1, 1, 1]])
    assert files_of(folder, NCHW)[-1] == folder / "preprocess.toml"


def test_bgr_bytes_last_channel(folder: Path) -> None:
    settings = Preprocess(scale=1.0, channels="BGR", layout="NHWC", filter="nearest")
    two = list(open_feeds(folder, NHWC, preprocess=settings))[1]["image"]
    assert two.dtype == np.uint8
    assert two[0, 0].tolist() == [[0, 0, 255], [0, 0, 255], [255, 0, 0], [255, 0, 0]]


def test_grey(folder: Path) -> None:
    settings = Preprocess(channels="GRAY", mean=(0.0,), std=(1.0,), fit="stretch")
    grey = next(open_feeds(folder, GRAY, preprocess=settings))["image"]
    np.testing.assert_allclose(grey, 128 / 255, atol=1e-6)


def test_resized_then_cropped(folder: Path) -> None:
    settings = Preprocess(resize=(8, 16), filter="nearest", scale=1.0)
    two = list(open_feeds(folder, NCHW, preprocess=settings))[1]["image"]
    assert two[0, 0, 0].tolist() == [255, 255, 0, 0]
    settings = Preprocess(resize=2)
    with pytest.raises(BadInput, match="smaller than the crop of 4 x 4"):
        list(open_feeds(folder, NCHW, preprocess=settings))


@pytest.mark.parametrize(
    ("specs", "settings", "message"),
    [
        (NHWC, Preprocess(), "has 4 channels as NCHW, RGB has 3"),
        ((*NCHW, *GRAY), Preprocess(), "several inputs"),
        (NCHW, Preprocess(input="imag"), "no input is called 'imag'"),
        ((InputSpec("x", np.dtype(np.float32), (2, 3, 4, 4)),), Preprocess(), "no single image"),
        ((InputSpec("x", np.dtype(np.float32), (1, 48)),), Preprocess(), "no single image"),
    ],
)
def test_inputs_that_take_no_images(
    folder: Path, specs: tuple[InputSpec, ...], settings: Preprocess, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        list(open_feeds(folder, specs, preprocess=settings))


@needs_pillow
def test_no_settings_no_images_no_image(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no preprocess\.toml"):
        list(open_feeds(tmp_path, NCHW))
    (tmp_path / "preprocess.toml").write_text("")
    with pytest.raises(BadInput, match="the folder has no images"):
        list(open_feeds(tmp_path, NCHW))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    with pytest.raises(BadInput, match="not an image"):
        list(open_feeds(tmp_path, NCHW))


def test_an_enormous_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images_module, "MAX_PIXELS", 10)
    with pytest.raises(BadInput, match="an image of 4 x 4"):
        list(open_feeds(folder, NCHW, preprocess=Preprocess()))


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> Any:
        raise ImportError(name)

    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(Missing, match="Pillow") as error:
        list(open_feeds(tmp_path, NCHW, preprocess=Preprocess()))
    assert "pip install" in error.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise = 3", "no setting is called 'sise'"),
        ("resize = -1", "resize = -1"),
        ("resize = true", "resize = True"),
        ("crop = [1]", r"crop = \[1\]"),
        ("std = [1, 0, 1]", r"std = \[1, 0, 1\]"),
        ("mean = [1, 2]", r"mean = \[1, 2\]"),
        ("scale = 0", "scale = 0"),
        ("scale = inf", "scale = inf"),
        ('layout = "HWC"', "layout = 'HWC'"),
        ("input = 3", "input = 3"),
        ("a b c", "not a TOML file"),
    ],
)
def test_bad_settings(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "preprocess.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_preprocess(path)


def test_all_settings(tmp_path: Path) -> None:
    path = tmp_path / "preprocess.toml"
    path.write_text(
        'resize = [6, 8]\nfit = "stretch"\nfilter = "bicubic"\ncrop = [4, 4]\nchannels = "BGR"\n'
        'scale = 1\nmean = [1, 2, 3]\nstd = [4, 5, 6]\nlayout = "NHWC"\ninput = "x"\n'
    )
    assert read_preprocess(path) == Preprocess(
        (6, 8), "stretch", "bicubic", (4, 4), "BGR", 1, (1, 2, 3), (4, 5, 6), "NHWC", "x"
    )

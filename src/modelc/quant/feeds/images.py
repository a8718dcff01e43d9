"""A folder of images, each of them one feed, prepared as its `preprocess.toml` says."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from modelc.errors import BadInput, Missing, Where, nearest
from modelc.quant.feeds.inputs import Feed, InputSpec, fit_feed
from modelc.quant.feeds.preprocess import FILE, Preprocess, read_preprocess

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
MAX_PIXELS: Final = 1 << 27
"""Of one image: a small file can claim to be enormous."""


def files(folder: Path) -> list[Path]:
    """Return the folder's images, sorted by name; folders in it are not looked into.

    Raises:
        BadInput: there are none.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise BadInput(
            "the folder has no images",
            where=Where(path=str(folder)),
            hint=f"their names end in {', '.join(sorted(SUFFIXES))}",
        )
    return found


def read(
    folder: Path, specs: Sequence[InputSpec], preprocess: Preprocess | None = None
) -> Iterator[Feed]:
    """Yield every image as the network's input.

    Args:
        preprocess: None to read it from `preprocess.toml` in the folder.

    Raises:
        Missing: Pillow is not installed.
        BadInput: a file is no image, there is no `preprocess.toml`, or it doesn't fit the input.
    """
    settings = preprocess or _settings(folder)
    spec = _image_input(specs, settings, folder)
    for path in files(folder):
        array = settings.normalise(_pixels(path, settings, spec))
        if spec.dtype.kind in "iu":
            array = np.rint(array)
        where = Where(path=str(path))
        yield fit_feed({spec.name: array}, specs, "the image", where)


def _settings(folder: Path) -> Preprocess:
    path = folder / FILE
    if not path.is_file():
        raise BadInput(
            f"nothing says how the images are prepared: the folder has no {FILE}",
            where=Where(path=str(folder)),
            hint="write one with at least scale, mean, std and layout, or give another place",
        )
    return read_preprocess(path)


def _image_input(specs: Sequence[InputSpec], settings: Preprocess, folder: Path) -> InputSpec:
    where = Where(path=str(folder))
    names = [spec.name for spec in specs]
    name = settings.input or (names[0] if len(names) == 1 else "")
    if name not in names:
        raise BadInput(
            f"no input is called {name!r}" if name else "the model has several inputs",
            where=where,
            hint=nearest(name, names) if name else "images serve models with one input only",
        )
    spec = specs[names.index(name)]
    batch = spec.shape[:-3]
    if len(spec.shape) not in (3, 4) or batch not in ((), (1,)):
        raise BadInput(
            f"{spec} takes no single image", where=where, hint="compile for a batch of 1"
        )
    channels = spec.shape[-3] if settings.layout == "NCHW" else spec.shape[-1]
    wanted = 1 if settings.channels == "GRAY" else 3
    if channels != wanted:
        raise BadInput(
            f"{spec} has {channels} channels as {settings.layout}, "
            f"{settings.channels} has {wanted}",
            where=where,
            hint="set layout and channels in preprocess.toml",
        )
    return spec


def _pixels(path: Path, settings: Preprocess, spec: InputSpec) -> np.ndarray:
    """Return an image uint8 [height, width, channels], resized and cropped."""
    pillow = _pillow()
    where = Where(path=str(path))
    rows = spec.shape[-2:] if settings.layout == "NCHW" else spec.shape[-3:-1]
    height, width = (own or net for own, net in zip(settings.crop, rows, strict=True))
    try:
        with pillow.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadInput(f"an image of {image.width} x {image.height}", where=where)
            image = image.convert("L" if settings.channels == "GRAY" else "RGB")
            image = image.resize(
                _size(settings, image.width, image.height, height, width),
                getattr(pillow.Resampling, settings.filter.upper()),
            )
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise BadInput(f"not an image: {error}", where=where) from error
    left, top = (image.width - width) // 2, (image.height - height) // 2
    if left < 0 or top < 0:
        raise BadInput(
            f"resized to {image.height} x {image.width}, it is smaller than the crop of "
            f"{height} x {width}",
            where=where,
            hint="resize to more, or crop less",
        )
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.uint8)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return pixels[:, :, ::-1] if settings.channels == "BGR" else pixels


def _size(
    settings: Preprocess, width: int, height: int, rows: int, columns: int
) -> tuple[int, int]:
    """Return [width, height] after resizing."""
    wanted = settings.resize
    if isinstance(wanted, tuple):
        return wanted[1], wanted[0]
    if settings.fit == "stretch":
        return (wanted or columns), (wanted or rows)
    ratio = wanted / min(width, height) if wanted else max(columns / width, rows / height)
    least = (columns, rows) if not wanted else (1, 1)
    return max(round(width * ratio), least[0]), max(round(height * ratio), least[1])


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise Missing(
            "images need Pillow, which is not installed", hint="pip install 'modelc[images]'"
        ) from error

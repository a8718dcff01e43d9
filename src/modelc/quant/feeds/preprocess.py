"""How an image becomes a network's input: `preprocess.toml`, checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from modelc.errors import BadInput, Where, nearest

FILE: Final = "preprocess.toml"
Layout = Literal["NCHW", "NHWC"]
Channels = Literal["RGB", "BGR", "GRAY"]
Fit = Literal["shorter", "stretch"]
Filter = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocess:
    """In this order: resize, crop the middle, channels, (x * scale - mean) / std, layout.

    Attributes:
        resize: pixels: of the shorter side, or [height, width]; 0: the network's own size.
        fit: what `resize` does to the sides' ratio, if it is one number: `shorter` keeps it,
            `stretch` makes a square.
        filter: of resizing.
        crop: [height, width] of the middle that is kept; [0, 0]: the network's size.
        channels: their order.
        scale: what every number from 0 to 255 is multiplied by; uint8 inputs want 1.
        mean, std: of each channel, after scaling.
        layout: of the network's input.
        input: which of the inputs is the image; "" if there is one only.
    """

    resize: int | tuple[int, int] = 0
    fit: Fit = "shorter"
    filter: Filter = "bilinear"
    crop: tuple[int, int] = (0, 0)
    channels: Channels = "RGB"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: Layout = "NCHW"
    input: str = ""

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels uint8 [height, width, channels] as float32 in the network's layout."""
        count = pixels.shape[-1]
        mean, std = (np.array(row[:count], np.float32) for row in (self.mean, self.std))
        values = (pixels.astype(np.float32) * np.float32(self.scale) - mean) / std
        return values.transpose(2, 0, 1) if self.layout == "NCHW" else values


def read_preprocess(path: Path) -> Preprocess:
    """Read a TOML file whose keys are the fields of `Preprocess`.

    Raises:
        BadInput: it can't be read, a key is unknown, or a value makes no sense; says which.
    """
    where = Where(path=str(path))
    try:
        with path.open("rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise BadInput(f"it can't be read: {error.strerror}", where=where) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"not a TOML file: {error}", where=where) from error
    known = [row.name for row in fields(Preprocess)]
    if strange := sorted(set(document) - set(known)):
        raise BadInput(
            f"no setting is called {strange[0]!r}", where=where, hint=nearest(strange[0], known)
        )
    return Preprocess(**{name: _checked(name, document[name], where) for name in document})


def _checked(name: str, value: Any, where: Where) -> Any:
    ok, what = _CHECKS[name](value), _WHAT[name]
    if not ok:
        raise BadInput(f"{name} = {value!r}", where=where, hint=f"it is {what}")
    return tuple(value) if isinstance(value, list) else value


def _pixels(value: Any, least: int = 1) -> bool:
    return type(value) is int and least <= value <= 1 << 14


def _pair(value: Any, least: int = 1) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_pixels(v, least) for v in value)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e6


def _of_channels(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (1, 3) and all(map(_number, value))


_CHECKS: Final[Mapping[str, Any]] = {
    "resize": lambda value: _pixels(value, 0) or _pair(value),
    "fit": lambda value: value in get_args(Fit),
    "filter": lambda value: value in get_args(Filter),
    "crop": lambda value: _pair(value, 0),
    "channels": lambda value: value in get_args(Channels),
    "scale": lambda value: _number(value) and value > 0,
    "mean": _of_channels,
    "std": lambda value: _of_channels(value) and all(v > 0 for v in value),
    "layout": lambda value: value in get_args(Layout),
    "input": lambda value: isinstance(value, str),
}
_WHAT: Final[Mapping[str, str]] = {
    "resize": "pixels of the shorter side, or [height, width]",
    "fit": "shorter or stretch",
    "filter": "nearest, bilinear or bicubic",
    "crop": "[height, width] in pixels",
    "channels": "RGB, BGR or GRAY",
    "scale": "a number above 0, such as 0.00392156862745098",
    "mean": "one number for each channel",
    "std": "one number above 0 for each channel",
    "layout": "NCHW or NHWC",
    "input": "the name of an input",
}

"""Retinanet's scales and offsets, read from the profile that calibration wrote."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modelc.errors import BadInput, Where

_IMAGES: Final = ("images:0", "images/:0")
_LEVELS: Final = 5
_LOCATIONS: Final = (
    ("/GatherElements/:0", *(f"/GatherElements_{n}/:0" for n in range(1, _LEVELS))),
    tuple(f"GatherElements_{n}/:0" for n in (588, 598, 608, 618, 628)),
)
_CONFIDENCES: Final = (
    ("/TopK/:0", *(f"/TopK_{n}/:0" for n in range(1, _LEVELS))),
    tuple(f"TopK_{n}/:0" for n in (570, 572, 574, 576, 578)),
)
"""Names of the outputs of the five levels, in the two exports of the model."""

_LINE: Final = re.compile(r"\s*(-\s+)?(NodeOutputName|Min|Max)\s*:\s*(.+?)\s*")
_ITEM: Final = re.compile(r"\s*-\s")
_LONGEST_LINE: Final = 1 << 20
_SIGNED: Final = 128
"""The outputs are read as uint8, their codes are int8."""


@dataclass(frozen=True)
class Range:
    """The least and largest value that a tensor had."""

    least: float
    largest: float

    def joined(self, other: Range) -> Range:
        return Range(min(self.least, other.least), max(self.largest, other.largest))

    @property
    def scale(self) -> float:
        return (self.largest - self.least) / 256.0

    @property
    def offset(self) -> int:
        return round(-self.least / self.scale)


def read_ranges(profile: Path) -> dict[str, Range]:
    """Return the range of every tensor of a profile, read line by line.

    Raises:
        BadInput: it can't be read, or has no ranges.
    """
    try:
        with profile.open(encoding="utf-8") as file:
            ranges = dict(_entries(iter(lambda: file.readline(_LONGEST_LINE), "")))
    except OSError as error:
        raise BadInput(
            f"the profile can't be read: {error.strerror}", where=_at(profile)
        ) from error
    except ValueError as error:
        raise BadInput("not a profile", where=_at(profile)) from error
    if not ranges:
        raise BadInput("the profile has no ranges", where=_at(profile))
    return ranges


def retinanet_scales(profile: Path) -> dict[str, float]:
    """Return QAIC_MODEL_RETINANET_... for the images, each of the five levels, and all together.

    A tensor's scale is its range / 256, its offset the code of zero; those of the outputs are
    lowered by 128, for they are read as uint8.

    Raises:
        BadInput: the profile is none of retinanet's.
    """
    ranges = read_ranges(profile)
    export = next((i for i, names in enumerate(_LOCATIONS) if names[0] in ranges), None)
    images = next((ranges[name] for name in _IMAGES if name in ranges), None)
    if export is None or images is None:
        raise BadInput("the profile has no tensors of retinanet's", where=_at(profile))
    values: dict[str, float] = {"IMAGE_SCALE": images.scale, "IMAGE_OFFSET": images.offset}
    for what, names in (("LOC", _LOCATIONS[export]), ("CONF", _CONFIDENCES[export])):
        values |= _levels(what, list(names), ranges, profile)
    return {f"QAIC_MODEL_RETINANET_{name}": value for name, value in values.items()}


def _levels(
    what: str, names: list[str], ranges: Mapping[str, Range], profile: Path
) -> dict[str, float]:
    if lost := [name for name in names if name not in ranges]:
        raise BadInput(f"the profile has no {lost[0]}", where=_at(profile))
    values: dict[str, float] = {}
    together = ranges[names[0]]
    for level, name in enumerate(names):
        together = together.joined(ranges[name])
        values[f"{what}_SCALE{level}"] = ranges[name].scale
        values[f"{what}_OFFSET{level}"] = ranges[name].offset - _SIGNED
    values[f"{what}_SCALE"] = together.scale
    values[f"{what}_OFFSET"] = together.offset - _SIGNED
    return values


def _entries(lines: Iterator[str]) -> Iterator[tuple[str, Range]]:
    """Yield name and range of each item of a list of maps.

    Raises:
        ValueError: a bound is no number.
    """
    item: dict[str, str] = {}
    for line in lines:
        if _ITEM.match(line):
            item = {}
        found = _LINE.fullmatch(line.rstrip("\n"))
        if found:
            item[found[2]] = found[3].strip("'\"")
        if found and len(item) == 3:
            least, largest = float(item["Min"]), float(item["Max"])
            if not (math.isfinite(least) and math.isfinite(largest)):
                raise ValueError("a range without end")
            if least < largest:
                yield item["NodeOutputName"], Range(least, largest)


def _at(path: Path) -> Where:
    return Where(path=str(path))

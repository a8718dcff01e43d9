"""The table of tuned tiles: a row for each kernel, shape and architecture that was measured.

`tiles.json` beside this file is what modelc ships; `modelc tune` writes the same form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from modelc.errors import BadInput, Where, nearest
from modelc.hashing import digest
from modelc.targets.cuda.choices import (
    CHOICES,
    MOST_STAGES,
    MOST_VALUE,
    MOST_WARPS,
)
from modelc.targets.cuda.gpus import ARCHES
from modelc.targets.cuda.kernel import Constants, Tile
from modelc.targets.cuda.kernel_table import KERNELS
from modelc.targets.cuda.plan import ELEMENT_BYTES
from modelc.targets.cuda.variant import Variant

FORMAT: Final = 1
SHAPE: Final = frozenset(
    {"N", "K", "width", "heads", "kv_heads", "vocab", "experts", "splits", "window"}
)
"""Constants that are sizes: between two values of them a tile changes little by little. All others
are a class of their own for each value."""

_MOST_BYTES: Final = 64 << 20
_MOST_NUMBER: Final = 1 << 31
_HINT: Final = "make it with `modelc tune`"


@dataclass(frozen=True)
class TunedTile:
    """One row.

    Attributes:
        types: element type of each tensor, by name.
        constants: those that matter (`matter`), by name.
        tokens: fewest and most tokens of a launch that it was measured for.
        tile: the values that may be chosen (`choices.CHOICES`), by name.
        microseconds: median of a launch for the most tokens.
        default_microseconds: of the kernel's own tile, in the same run.
        gpu, triton: what it was measured on, and compiled with.
    """

    kernel: str
    arch: int
    types: Mapping[str, str]
    constants: Constants
    tokens: tuple[int, int]
    tile: Mapping[str, int]
    warps: int
    stages: int
    microseconds: float
    default_microseconds: float
    gpu: str
    triton: str

    @property
    def group(self) -> str:
        """What a variant must share with it: kernel, architecture, types, constants but sizes."""
        return group_of(self.kernel, self.arch, self.types, self.constants)

    @property
    def key(self) -> tuple[str, tuple[tuple[str, int], ...], tuple[int, int]]:
        """What there is one row of."""
        return self.group, tuple(sorted(shape_of(self.constants).items())), self.tokens

    def whole_tile(self, default: Tile) -> Tile:
        """Return the tile, what may not be chosen as in the default one."""
        return Tile({**default.values, **self.tile}, self.warps, self.stages)


@dataclass(frozen=True)
class TileTable:
    """Rows, by their groups."""

    groups: Mapping[str, tuple[TunedTile, ...]]

    @property
    def rows(self) -> tuple[TunedTile, ...]:
        return tuple(row for rows in self.groups.values() for row in rows)


def matter(constants: Constants) -> dict[str, Any]:
    """Return the constants that a kernel's speed goes by: all but real numbers, such as a norm's
    epsilon."""
    return {name: value for name, value in constants.items() if not isinstance(value, float)}


def shape_of(constants: Constants) -> dict[str, int]:
    """Return the constants that are sizes."""
    return {name: int(value) for name, value in constants.items() if name in SHAPE}


def group_of(kernel: str, arch: int, types: Mapping[str, str], constants: Constants) -> str:
    """Return what tiles are compared within, as text. Both types of 16 bits are one."""
    alike = {name: "half" if type in ("bf16", "fp16") else type for name, type in types.items()}
    others = {name: value for name, value in matter(constants).items() if name not in SHAPE}
    return json.dumps([kernel, arch, alike, others], sort_keys=True)


def group_of_variant(variant: Variant, arch: int) -> str:
    return group_of(variant.kernel, arch, variant.types, variant.constants)


def table_of(rows: Iterable[TunedTile]) -> TileTable:
    """Return a table; of rows with one key the last one counts."""
    kept = {row.key: row for row in rows}
    groups: dict[str, list[TunedTile]] = {}
    for key in sorted(kept):
        groups.setdefault(kept[key].group, []).append(kept[key])
    return TileTable({group: tuple(found) for group, found in groups.items()})


@cache
def shipped() -> TileTable:
    """Return the table that modelc carries."""
    return table_of(_rows(_shipped_bytes(), "tiles.json"))


def shipped_digest() -> str:
    """SHA-256 (hex) of the table that modelc carries, for keys of what is made with it."""
    return digest(_shipped_bytes())


def _shipped_bytes() -> bytes:
    return (files("modelc.targets.cuda") / "tiles.json").read_bytes()


def read_tiles(path: Path) -> tuple[TunedTile, ...]:
    """Read a table that `save_tiles` wrote, or anybody else.

    Raises:
        BadInput: it can't be read, or has a row of no kernel, with an absurd tile, and so on.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadInput("this is no table of tiles: it is too large", hint=_HINT)
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"the table of tiles can't be read: {error.strerror}", where=Where(path=str(path))
        ) from error
    return _rows(data, str(path))


def table_with(path: Path | None) -> TileTable:
    """Return the shipped table, with the rows of a file before its own.

    Raises:
        BadInput: see `read_tiles`.
    """
    return shipped() if path is None else table_of((*shipped().rows, *read_tiles(path)))


def save_tiles(rows: Sequence[TunedTile], path: Path) -> None:
    """Write rows as JSON, one on each line, sorted; a file that there is, is replaced."""
    from modelc.files import write_atomic

    lines = [json.dumps(asdict(row), sort_keys=True) for row in table_of(rows).rows]
    body = ",\n".join(lines)
    write_atomic(path, f'{{"format": {FORMAT}, "tiles": [\n{body}\n]}}\n'.encode())


def _rows(data: bytes, name: str) -> tuple[TunedTile, ...]:
    from pydantic import TypeAdapter

    where = Where(path=name)
    try:
        document = json.loads(data)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        rows = TypeAdapter(tuple[TunedTile, ...]).validate_python(document["tiles"])
    except (ValueError, KeyError, RecursionError) as error:
        raise BadInput(f"this is no table of tiles: {error}", where=where, hint=_HINT) from error
    for number, row in enumerate(rows):
        if problem := _problem(row):
            raise BadInput(
                f"tile {number} of the table: {problem}", where=where, hint=_hint_for(row)
            )
    return rows


def _hint_for(row: TunedTile) -> str:
    return _HINT if row.kernel in CHOICES else nearest(row.kernel, CHOICES)


def _problem(row: TunedTile) -> str:
    """Say what is wrong with a row."""
    if row.kernel not in CHOICES:
        return f"there is no kernel {row.kernel!r} whose tile can be chosen"
    kernel, choices = KERNELS[row.kernel], CHOICES[row.kernel]
    if row.arch not in ARCHES or row.arch < kernel.since:
        return f"{row.kernel} is not compiled for sm{row.arch}"
    if set(row.tile) != set(choices.values):
        return f"{row.kernel} has tile values {sorted(choices.values)}, not {sorted(row.tile)}"
    for value, most in (
        *((value, MOST_VALUE) for value in row.tile.values()),
        (row.warps, MOST_WARPS),
    ):
        if not 0 < value <= most or value & (value - 1):
            return f"{value} is no power of two up to {most}"
    if not 0 < row.stages <= MOST_STAGES:
        return f"{row.stages} stages, of which there can be {MOST_STAGES}"
    known = {tensor.name for tensor in kernel.tensors}
    if not set(row.types) <= known or not set(row.types.values()) <= {*ELEMENT_BYTES, "i64"}:
        return f"{row.kernel} has no such tensors: {dict(row.types)}"
    if not set(row.constants) <= set(kernel.constants):
        return f"{row.kernel} has constants {list(kernel.constants)}, not {list(row.constants)}"
    for name in SHAPE & set(kernel.constants):
        size = row.constants.get(name)
        if type(size) is not int or not 0 <= size < _MOST_NUMBER:
            return f"{name} is {size!r}"
    if not 0 < row.tokens[0] <= row.tokens[1] < _MOST_NUMBER:
        return f"from {row.tokens[0]} to {row.tokens[1]} tokens"
    times = (row.microseconds, row.default_microseconds)
    if not all(math.isfinite(time) and time > 0 for time in times):
        return "a time that is none"
    return ""

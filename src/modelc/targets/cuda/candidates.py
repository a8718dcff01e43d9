"""The tiles that a tuner tries for a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Final

from modelc.targets.cuda.choices import CHOICES, Choices
from modelc.targets.cuda.gpus import SHARED_BYTES
from modelc.targets.cuda.kernel import Constants, Tile
from modelc.targets.cuda.variant import Variant

_LEAST_HELD: Final = 32
_MOST_HELD: Final = 128
"""Numbers of a thread; it has 255 registers."""


def candidates(variant: Variant, arch: int) -> tuple[Variant, ...]:
    """Return a variant with each tile that is to be tried on an architecture, its default first."""
    default = variant.row.tile(variant.constants, arch)
    choices = CHOICES.get(variant.kernel)
    tiles = [default]
    if choices is not None:
        tiles += _tiles(choices, variant.constants, default, arch)
    found = {_key(tile): tile for tile in reversed(tiles)}
    ordered = sorted(found.values(), key=lambda tile: (tile != default, _key(tile)))
    return tuple(replace(variant, tile=tile) for tile in ordered)


def fits(variant: Variant, tile: Tile) -> bool:
    """Whether a tile gives a variant's numbers: its fixed values are the row's own, the free ones
    suit the constants."""
    choices = CHOICES.get(variant.kernel)
    return choices is not None and choices.fits(variant.constants, tile.values)


def _tiles(choices: Choices, constants: Constants, default: Tile, arch: int) -> Iterator[Tile]:
    names = tuple(choices.values)
    for chosen in product(*choices.values.values()):
        values = {**default.values, **dict(zip(names, chosen, strict=True))}
        if not choices.fits(constants, values):
            continue
        each = choices.stage_bytes(constants, values)
        held = choices.held(constants, values)
        for warps, stages in product(choices.warps, choices.stages):
            suits = not held or _LEAST_HELD <= held // (32 * warps) <= _MOST_HELD
            if suits and each * max(stages - 1, 1) <= SHARED_BYTES[arch]:
                yield Tile(values, warps, stages)


def _key(tile: Tile) -> tuple[tuple[tuple[str, int], ...], int, int]:
    return tuple(sorted(tile.values.items())), tile.warps, tile.stages

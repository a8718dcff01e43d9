"""Norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from modelc.targets.cuda.kernel import (
    ONE,
    Constants,
    Extent,
    Grid,
    Kernel,
    Tensor,
    Tile,
    power_of_two,
)


def _one_for_each_token(constants: Constants, tile: Mapping[str, int]) -> Grid:
    return Extent(1, "tokens"), ONE, ONE


def _whole_rows(constants: Constants, arch: int) -> Tile:
    block = power_of_two(int(constants["width"]))
    return Tile({"BLOCK": block}, warps=min(max(block // 1024, 1), 8), stages=1)


NORMS: Final = (
    Kernel(
        "rms_norm",
        (Tensor("x", "act"), Tensor("weight", "fp32"), Tensor("out", "act", written=True)),
        sizes=(),
        constants=("width", "epsilon"),
        tile_names=("BLOCK",),
        grid=_one_for_each_token,
        tile=_whole_rows,
    ),
)

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


def _warps(block: int) -> int:
    """16 elements for each thread, up to 16 warps: a lone token's norm waits for its loads."""
    return min(max(block // 512, 1), 16)


def _whole_rows(constants: Constants, arch: int) -> Tile:
    block = power_of_two(int(constants["width"]))
    return Tile({"BLOCK": block}, warps=_warps(block), stages=1)


def _whole_groups(constants: Constants, arch: int) -> Tile:
    width, group = int(constants["width"]), int(constants["group"])
    groups, block = power_of_two(width // group), power_of_two(group)
    return Tile({"GROUPS": groups, "BLOCK": block}, warps=_warps(groups * block), stages=1)


_X: Final = Tensor("x", "act")
_RESIDUAL: Final = Tensor("residual", "act")
_WEIGHT: Final = Tensor("weight", "fp32")
_TOTAL: Final = Tensor("total", "act", written=True)
_OUT: Final = Tensor("out", "act", written=True)

# With a static scale (float32 [1]) there are no `scales` to write; else these are
# [tokens, width / group]. `out` is for those who read the norm as well as its codes.
_QUANTISED: Final = (
    Tensor("static_scale", "fp32", optional=True),
    Tensor("out", "act", written=True, optional=True),
    Tensor("codes", "e4m3", written=True),
    Tensor("scales", "fp32", written=True, optional=True),
)


def _norm(name: str, *tensors: Tensor) -> Kernel:
    return Kernel(
        name,
        tensors,
        sizes=(),
        constants=("width", "epsilon"),
        tile_names=("BLOCK",),
        grid=_one_for_each_token,
        tile=_whole_rows,
    )


def _quantised_norm(name: str, *tensors: Tensor) -> Kernel:
    return Kernel(
        name,
        (*tensors, *_QUANTISED),
        sizes=(),
        constants=("width", "epsilon", "group"),
        tile_names=("GROUPS", "BLOCK"),
        grid=_one_for_each_token,
        tile=_whole_groups,
        since=89,
    )


NORMS: Final = (
    _norm("rms_norm", _X, _WEIGHT, _OUT),
    _norm("add_rms_norm", _X, _RESIDUAL, _WEIGHT, _TOTAL, _OUT),
    _quantised_norm("rms_norm_fp8", _X, _WEIGHT),
    _quantised_norm("add_rms_norm_fp8", _X, _RESIDUAL, _WEIGHT, _TOTAL),
)

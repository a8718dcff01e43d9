"""What is done to each element, or moves whole rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from modelc.targets.cuda.kernel import (
    ONE,
    Constants,
    Extent,
    Grid,
    Kernel,
    Tensor,
    Tile,
    blocks,
    power_of_two,
)

_BLOCK: Final = 1024  # elements of a row; 16 bytes for each of 128 threads


def _blocks_of(symbol: str) -> Callable[[Constants, Mapping[str, int]], Grid]:
    """A row for each of `symbol`, in blocks."""

    def grid(constants: Constants, tile: Mapping[str, int]) -> Grid:
        return Extent(1, symbol), blocks(int(constants["width"]), tile["BLOCK"]), ONE

    return grid


def _block(constants: Constants, arch: int) -> Tile:
    block = min(power_of_two(int(constants["width"])), _BLOCK)
    return Tile({"BLOCK": block}, warps=min(max(block // 256, 1), 4), stages=1)


def _kernel(
    name: str,
    *tensors: Tensor,
    symbol: str = "tokens",
    sizes: tuple[str, ...] = (),
    constants: tuple[str, ...] = ("width",),
) -> Kernel:
    return Kernel(name, tensors, sizes, constants, ("BLOCK",), _blocks_of(symbol), _block)


_OUT: Final = Tensor("out", "act", written=True)

ELEMENTWISE: Final = (
    _kernel("add", Tensor("x", "act"), Tensor("y", "act"), _OUT),
    _kernel("add_gated", Tensor("x", "act"), Tensor("y", "act"), Tensor("gate", "act"), _OUT),
    _kernel(
        "embed",
        Tensor("token_ids", "i32"),
        Tensor("table", "act"),
        _OUT,
        constants=("vocab", "width", "scale"),
    ),
    _kernel("gated", Tensor("x", "act"), _OUT, constants=("width", "activation")),
    _kernel(
        "select_rows",
        Tensor("x", "act"),
        Tensor("wanted", "i32"),
        _OUT,
        symbol="rows",
        sizes=("tokens",),
    ),
    _kernel(
        "softcap",
        Tensor("logits", "fp32", updated=True),
        symbol="rows",
        constants=("width", "cap"),
    ),
)

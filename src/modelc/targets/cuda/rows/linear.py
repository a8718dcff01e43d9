"""Linear layers: x @ w.T (+ bias), in 16 bits, 4-bit codes and e4m3.

All take constants `N`, the width of the output, `K` and `activation`. With "silu", "gelu" or
"gelu_tanh" the weight has 2 * N rows, first the gate's, then those of what it gates; the output is
act(gate) * up. With "none" it has N. `bias` has as many values as the weight has rows. `out` may be
float32. Kernels named `_few` are for at most `most` tokens at a time, 1, 2, 4, 8 or 16; they read
the weight once for so many tokens.
"""

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
)
from modelc.targets.cuda.rows import linear_tiles as tiles

_X: Final = Tensor("x", "act")
_W: Final = Tensor("w", "act")
_X8: Final = Tensor("x", "e4m3")
_W8: Final = Tensor("w", "e4m3")
_X_SCALES: Final = Tensor("x_scales", "fp32")
_SCALES: Final = Tensor("scales", "fp32")
_INT4: Final = (
    Tensor("codes", "u8"), Tensor("scales", "fp16"), Tensor("zeros", "u8", optional=True),
)  # fmt: skip
_OUT: Final = (Tensor("bias", "fp32", optional=True), Tensor("out", "act", written=True))

_SHAPE: Final = ("N", "K", "activation")
_BLOCKS: Final = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP_M")


def _block_grid(constants: Constants, tile: Mapping[str, int]) -> Grid:
    across = blocks(tiles.weight_rows(constants), tile["BLOCK_N"])
    return Extent(across.times, "tokens", tile["BLOCK_M"]), ONE, ONE


def _few_grid(constants: Constants, tile: Mapping[str, int]) -> Grid:
    across = blocks(tiles.weight_rows(constants), tile["BLOCK_N"])
    return across, Extent(1, "tokens", int(constants["most"])), ONE


def _group_grid(constants: Constants, tile: Mapping[str, int]) -> Grid:
    count = blocks(int(constants["width"]), int(constants["group"])).times
    return Extent(1, "tokens"), blocks(count, tile["GROUPS"]), ONE


def _many(
    name: str,
    tensors: tuple[Tensor, ...],
    tile: Callable[[Constants, int], Tile],
    *,
    more: tuple[str, ...] = (),
    tile_names: tuple[str, ...] = _BLOCKS,
    since: int = 80,
) -> Kernel:
    constants = (*_SHAPE, *more)
    return Kernel(
        name, (*tensors, *_OUT), ("tokens",), constants, tile_names, _block_grid, tile, since
    )


def _few(
    name: str,
    tensors: tuple[Tensor, ...],
    tile: Callable[[Constants, int], Tile],
    *,
    more: tuple[str, ...] = (),
    tile_names: tuple[str, ...] = ("BLOCK_N", "BLOCK_K", "SPLIT"),
    since: int = 80,
) -> Kernel:
    constants = (*_SHAPE, *more, "most")
    return Kernel(
        name, (*tensors, *_OUT), ("tokens",), constants, tile_names, _few_grid, tile, since
    )


LINEAR: Final = (
    _many("linear", (_X, _W), tiles.many),
    _few("linear_few", (_X, _W), tiles.few),
    _many(
        "int4_linear", (_X, *_INT4), tiles.many_int4,
        more=("group",), tile_names=(*_BLOCKS, "SWAP"),
    ),
    _few("int4_linear_few", (_X, *_INT4), tiles.few_int4, more=("group",)),
    _many(
        "fp8_block_linear", (_X8, _X_SCALES, _W8, _SCALES), tiles.many_fp8_block,
        tile_names=("BLOCK_M", "BLOCK_N", "GROUP_M"), since=89,
    ),
    _few(
        "fp8_block_linear_few", (_X, _W8, _SCALES), tiles.few_fp8,
        tile_names=("BLOCK_N", "SPLIT"), since=89,
    ),
    _many("fp8_linear", (_X8, _X_SCALES, _W8, _SCALES), tiles.many_fp8, since=89),
    _few(
        "fp8_linear_few", (_X, _W8, _SCALES), tiles.few_fp8,
        tile_names=("BLOCK_N", "SPLIT"), since=89,
    ),
    Kernel(
        "quantise_fp8",
        (_X, Tensor("static_scale", "fp32", optional=True), Tensor("out", "e4m3", written=True),
         Tensor("scales", "fp32", written=True)),
        sizes=(),
        constants=("width", "group"),
        tile_names=("GROUPS", "BLOCK"),
        grid=_group_grid,
        tile=tiles.groups,
        since=89,
    ),
)  # fmt: skip

"""Mixture of experts. A pair is one choice of one token: token * used + choice."""

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
    blocks,
    power_of_two,
)
from modelc.targets.cuda.rows import expert_tiles

_MOST_FEW_TOKENS: Final = 16


def takes_few(tokens: int, used: int, experts: int) -> bool:
    """Whether the kernels named `_few` should be used, without `group_pairs`.

    They read an expert's weights for each of its pairs, from the L2 cache if not from memory: an
    estimate, not a measurement, is that this pays up to two pairs for each expert.
    """
    return tokens == 1 or (tokens <= _MOST_FEW_TOKENS and tokens * used <= 2 * experts)


def tile_rows(tokens: int, used: int, experts: int) -> int:
    """Return how many pairs a tile should hold (`block`): what an expert gets on average, as a
    power of two from 16 to 128."""
    return min(max(power_of_two(-(-tokens * used // experts)), 16), 128)


def tiles_extent(used: int, experts: int, block: int) -> Extent:
    """Return how many tiles of `block` pairs suffice, whatever experts are chosen.

    An expert with n pairs fills at most (n + block - 1) / block tiles; over all experts that is
    less than tokens * used / block + experts.
    """
    return Extent(used, "tokens", block, plus=experts - 1)


def padded_extent(used: int, experts: int, block: int) -> Extent:
    """Return how many pairs those tiles hold: the length of `order`."""
    return Extent(used * block, "tokens", block, plus=(experts - 1) * block)


def _one_for_each_token(constants: Constants, tile: Mapping[str, int]) -> Grid:
    return Extent(1, "tokens"), ONE, ONE


def _one_for_each_expert(constants: Constants, tile: Mapping[str, int]) -> Grid:
    return Extent(int(constants["experts"])), ONE, ONE


def _columns_of_tokens(constants: Constants, tile: Mapping[str, int]) -> Grid:
    return Extent(1, "tokens"), blocks(int(constants["width"]), tile["BLOCK"]), ONE


def _columns_of_tiles(constants: Constants, tile: Mapping[str, int]) -> Grid:
    columns = -(-int(constants["N"]) // tile["BLOCK_N"])
    used, experts, block = (int(constants[name]) for name in ("used", "experts", "block"))
    tiles = tiles_extent(used, experts, block)
    return Extent(tiles.times * columns, "tokens", block, plus=tiles.plus * columns), ONE, ONE


def _columns_of_pairs(constants: Constants, tile: Mapping[str, int]) -> Grid:
    pairs = Extent(int(constants["used"]), "tokens")
    return pairs, blocks(int(constants["N"]), tile["BLOCK_N"]), ONE


def _route(constants: Constants, arch: int) -> Tile:
    experts, used = int(constants["experts"]), int(constants["used"])
    return Tile({"EXPERTS": power_of_two(experts), "USED": power_of_two(used)}, 1, 1)


def _group(constants: Constants, arch: int) -> Tile:
    return Tile({"CHUNK": 2048, "EXPERTS": power_of_two(int(constants["experts"]))}, 8, 1)


def _combine(constants: Constants, arch: int) -> Tile:
    return Tile({"BLOCK": min(power_of_two(int(constants["width"])), 1024)}, 4, 1)


_X: Final = Tensor("x", "act")
_W: Final = Tensor("w", "act")
_W8: Final = (Tensor("w", "e4m3"), Tensor("scales", "fp32"))
_W4: Final = (
    Tensor("codes", "u8"), Tensor("scales", "fp16"), Tensor("zeros", "u8", optional=True)
)  # fmt: skip
_X8: Final = (Tensor("x", "e4m3"), Tensor("x_scales", "fp32"))
_ORDERED: Final = (
    Tensor("order", "i32"), Tensor("tile_expert", "i32"), Tensor("out", "act", written=True)
)  # fmt: skip
_FEW: Final = (Tensor("ids", "i32"), Tensor("out", "act", written=True))
_SHAPE: Final = ("N", "K")
_GROUPED: Final = ("experts", "used", "block", "activation", "shared_input")
_UNGROUPED: Final = ("used", "activation", "shared_input")

EXPERTS: Final = (
    Kernel(
        "route",
        (
            Tensor("logits", "fp32"), Tensor("ids", "i32", written=True),
            Tensor("shares", "fp32", written=True),
        ),
        (), ("experts", "used", "normalise"), ("EXPERTS", "USED"), _one_for_each_token, _route,
    ),
    Kernel(
        "group_pairs",
        (
            Tensor("ids", "i32"), Tensor("order", "i32", written=True),
            Tensor("tile_expert", "i32", written=True),
        ),
        ("tokens",), ("experts", "used", "block"), ("CHUNK", "EXPERTS"),
        _one_for_each_expert, _group,
    ),
    Kernel(
        "expert_linear",
        (_X, _W, *_ORDERED), ("tokens",), (*_SHAPE, *_GROUPED), ("BLOCK_N", "BLOCK_K", "GROUP"),
        _columns_of_tiles, expert_tiles.grouped,
    ),
    Kernel(
        "expert_linear_few",
        (_X, _W, *_FEW), (), (*_SHAPE, *_UNGROUPED), ("BLOCK_N", "BLOCK_K"),
        _columns_of_pairs, expert_tiles.few,
    ),
    Kernel(
        "expert_int4_linear",
        (_X, *_W4, *_ORDERED), ("tokens",), (*_SHAPE, "group", *_GROUPED),
        ("BLOCK_N", "GROUPS", "GROUP"), _columns_of_tiles, expert_tiles.grouped_int4,
    ),
    Kernel(
        "expert_int4_linear_few",
        (_X, *_W4, *_FEW), (), (*_SHAPE, "group", *_UNGROUPED), ("BLOCK_N", "GROUPS"),
        _columns_of_pairs, expert_tiles.few_int4,
    ),
    Kernel(
        "expert_fp8_linear",
        (*_X8, *_W8, *_ORDERED), ("tokens",), (*_SHAPE, *_GROUPED), ("BLOCK_N", "BLOCK_K", "GROUP"),
        _columns_of_tiles, expert_tiles.grouped_fp8, since=89,
    ),
    Kernel(
        "expert_fp8_linear_few",
        (_X, *_W8, *_FEW), (), (*_SHAPE, *_UNGROUPED), ("BLOCK_N", "BLOCK_K"),
        _columns_of_pairs, expert_tiles.few, since=89,
    ),
    Kernel(
        "expert_fp8_block_linear",
        (*_X8, *_W8, *_ORDERED), ("tokens",), (*_SHAPE, *_GROUPED), ("BLOCK_N", "GROUP"),
        _columns_of_tiles, expert_tiles.grouped_fp8_block, since=89,
    ),
    Kernel(
        "expert_fp8_block_linear_few",
        (_X, *_W8, *_FEW), (), (*_SHAPE, *_UNGROUPED), ("BLOCK_N", "BLOCK_K"),
        _columns_of_pairs, expert_tiles.few, since=89,
    ),
    Kernel(
        "combine",
        (Tensor("y", "act"), Tensor("shares", "fp32"), Tensor("out", "act", written=True)),
        (), ("used", "width"), ("BLOCK",), _columns_of_tokens, _combine,
    ),
)  # fmt: skip

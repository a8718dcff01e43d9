"""Attention over a paged cache.

Caches are [pages, kv_heads, page, head_dim]; position p of a sequence lies in the page that the
sequence's row of `block_tables` lists at p // page, at p % page. `lengths` counts positions with
this call's tokens, whose rows are starts[s]..starts[s+1]-1. Codes (e4m3) stand for themselves times
the scale of their head. Where an architecture has no e4m3, caches are given as u8.
"""

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

_CACHE = (Tensor("key_cache", "kv"), Tensor("value_cache", "kv"))
_SCALES = (
    Tensor("key_scale", "fp32", optional=True),
    Tensor("value_scale", "fp32", optional=True),
)
_ATTENTION = ("heads", "kv_heads", "head_dim", "page", "scale", "softcap", "window")


def _blocks_of_heads(constants: Constants, tile: Mapping[str, int]) -> Grid:
    heads, kv_heads = int(constants["heads"]), int(constants["kv_heads"])
    blocks = -(-heads // tile["HEADS"]) + 2 * -(-kv_heads // tile["HEADS"])
    return Extent(1, "tokens"), Extent(blocks), ONE


def _some_heads(constants: Constants, arch: int) -> Tile:
    half = power_of_two(int(constants["rotary"]) // 2)
    rest = power_of_two(int(constants["head_dim"]) - int(constants["rotary"]))
    heads = max(1024 // power_of_two(int(constants["head_dim"])), 1)
    return Tile({"HEADS": heads, "HALF": half, "REST": rest}, warps=2, stages=1)


def _blocks_of_queries(constants: Constants, tile: Mapping[str, int]) -> Grid:
    per = tile["BLOCK_M"]
    return Extent(1, "tokens", per), Extent(int(constants["heads"])), Extent(1, "sequences")


def _prefill_tile(constants: Constants, arch: int) -> Tile:
    width = power_of_two(int(constants["head_dim"]))
    # Sums lie in registers: half of all, where heads are 256 wide. What mma.sync multiplies lies
    # there as well; wgmma's keys and values don't.
    wide = width > (128 if arch >= 90 else 64)
    queries = 64 if width > 128 and arch < 90 else 128
    stages = 3 if width <= 128 and arch < 90 else 2
    values = {"BLOCK_M": queries, "BLOCK_N": 32 if wide else 64, "BLOCK_D": width}
    return Tile(values, warps=8, stages=stages)


def _splits(constants: Constants, tile: Mapping[str, int]) -> Grid:
    kv_heads, splits = int(constants["kv_heads"]), int(constants["splits"])
    return Extent(1, "sequences"), Extent(kv_heads), Extent(splits)


def _decode_tile(constants: Constants, arch: int) -> Tile:
    width = power_of_two(int(constants["head_dim"]))
    group = int(constants["heads"]) // int(constants["kv_heads"])
    queries = max(power_of_two(group), 16)  # a tensor core has no fewer
    keys = 64 if width <= 128 or arch >= 90 else 32
    return Tile({"BLOCK_M": queries, "BLOCK_N": keys, "BLOCK_D": width}, warps=4, stages=3)


def _one_for_each_head(constants: Constants, tile: Mapping[str, int]) -> Grid:
    return Extent(1, "sequences"), Extent(int(constants["heads"])), ONE


def _some_splits(constants: Constants, arch: int) -> Tile:
    width = power_of_two(int(constants["head_dim"]))
    splits = power_of_two(int(constants["splits"]))
    block = min(splits, max(4096 // width, 1))
    return Tile({"BLOCK_S": block, "BLOCK_D": width, "SPLITS": splits}, stages=1)


ATTENTION: Final = (
    Kernel(
        "rope_write",
        (
            Tensor("qkv", "act"),
            Tensor("query_norm", "fp32", optional=True),
            Tensor("key_norm", "fp32", optional=True),
            Tensor("cos", "fp32"),
            Tensor("sin", "fp32"),
            Tensor("positions", "i32"),
            Tensor("slots", "i32"),
            *_SCALES,
            Tensor("queries", "act", written=True),
            Tensor("key_cache", "kv", updated=True),
            Tensor("value_cache", "kv", updated=True),
        ),
        sizes=(),
        constants=("heads", "kv_heads", "head_dim", "rotary", "page", "epsilon"),
        tile_names=("HEADS", "HALF", "REST"),
        grid=_blocks_of_heads,
        tile=_some_heads,
    ),
    Kernel(
        "attention_prefill",
        (
            Tensor("queries", "act"),
            *_CACHE,
            *_SCALES,
            Tensor("block_tables", "i32"),
            Tensor("starts", "i32"),
            Tensor("lengths", "i32"),
            Tensor("out", "act", written=True),
        ),
        sizes=("tokens", "max_pages"),
        constants=_ATTENTION,
        tile_names=("BLOCK_M", "BLOCK_N", "BLOCK_D"),
        grid=_blocks_of_queries,
        tile=_prefill_tile,
    ),
    Kernel(
        "attention_decode",
        (
            Tensor("queries", "act"),
            *_CACHE,
            *_SCALES,
            Tensor("block_tables", "i32"),
            Tensor("lengths", "i32"),
            Tensor("partial", "fp32", written=True),
            Tensor("stats", "fp32", written=True),
        ),
        sizes=("max_pages",),
        constants=(*_ATTENTION, "splits"),
        tile_names=("BLOCK_M", "BLOCK_N", "BLOCK_D"),
        grid=_splits,
        tile=_decode_tile,
    ),
    Kernel(
        "attention_merge",
        (
            Tensor("partial", "fp32"),
            Tensor("stats", "fp32"),
            Tensor("out", "act", written=True),
        ),
        sizes=(),
        constants=("heads", "head_dim", "splits"),
        tile_names=("BLOCK_S", "BLOCK_D", "SPLITS"),
        grid=_one_for_each_head,
        tile=_some_splits,
    ),
)

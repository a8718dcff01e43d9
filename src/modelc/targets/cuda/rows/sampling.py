"""Sampling: four launches, one after the other, that choose a token for each row of logits.

`sample_peak` finds the likeliest tokens; `sample_bins` counts and weighs tokens in bins by how far
they are below the peak; `sample_groups` puts the ids of each bin side by side; `sample` chooses.
The order is the usual one: repetition penalty, temperature, top-k, top-p; the draw goes through the
tokens from the likeliest on, so that it finds what `targets.sampling.Sampler` finds. Tokens of
less than 2^-40 of the likeliest's probability are never drawn. Where every row is greedy, the first
and the last launch do, both compiled without the tensors that are optional.

Constants: `vocab`, at most `MOST_TOKENS`; `part` is `PART` and `bins` is `BINS`. Per row:
temperature (greedy unless above 0), top_k (0: all), top_p (1: all), draw (uniform in [0, 1)),
penalty with seen [rows, vocab] (not 0: seen before). Workspaces: part_peak and part_token
[rows, ceil(vocab / part)], counts, weights and filled [rows, bins], grouped [rows, vocab].
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
    blocks,
    power_of_two,
)

PART: Final = 2048
"""Tokens that one program looks at."""

BINS: Final = 2048

MOST_TOKENS: Final = 1 << 22
"""Of a vocabulary: their weights add up to less than 2^63."""


def _parts_of_rows(constants: Constants, tile: Mapping[str, int]) -> Grid:
    return Extent(1, "rows"), blocks(int(constants["vocab"]), int(constants["part"])), ONE


def _one_for_each_row(constants: Constants, tile: Mapping[str, int]) -> Grid:
    return Extent(1, "rows"), ONE, ONE


def _parts(constants: Constants) -> int:
    return power_of_two(-(-int(constants["vocab"]) // int(constants["part"])))


def _peak_tile(constants: Constants, arch: int) -> Tile:
    return Tile(warps=8, stages=1)


def _part_tile(constants: Constants, arch: int) -> Tile:
    return Tile({"PARTS": _parts(constants)}, warps=8, stages=1)


def _row_tile(constants: Constants, arch: int) -> Tile:
    return Tile({"PARTS": _parts(constants), "BLOCK": 512}, warps=4, stages=1)


_LOGITS: Final = (
    Tensor("logits", "fp32"),
    Tensor("penalty", "fp32", optional=True),
    Tensor("seen", "u8", optional=True),
)
_CONSTANTS: Final = ("vocab", "part", "bins")

SAMPLING: Final = (
    Kernel(
        "sample_peak",
        (
            *_LOGITS,
            Tensor("part_peak", "fp32", written=True),
            Tensor("part_token", "i32", written=True),
            Tensor("counts", "i32", written=True, optional=True),
            Tensor("weights", "i64", written=True, optional=True),
            Tensor("filled", "i32", written=True, optional=True),
        ),
        sizes=(),
        constants=_CONSTANTS,
        tile_names=(),
        grid=_parts_of_rows,
        tile=_peak_tile,
    ),
    Kernel(
        "sample_bins",
        (
            *_LOGITS,
            Tensor("temperature", "fp32"),
            Tensor("part_peak", "fp32"),
            Tensor("counts", "i32", updated=True),
            Tensor("weights", "i64", updated=True),
        ),
        sizes=(),
        constants=_CONSTANTS,
        tile_names=("PARTS",),
        grid=_parts_of_rows,
        tile=_part_tile,
    ),
    Kernel(
        "sample_groups",
        (
            *_LOGITS,
            Tensor("temperature", "fp32"),
            Tensor("part_peak", "fp32"),
            Tensor("counts", "i32"),
            Tensor("filled", "i32", updated=True),
            Tensor("grouped", "i32", updated=True),
        ),
        sizes=(),
        constants=_CONSTANTS,
        tile_names=("PARTS",),
        grid=_parts_of_rows,
        tile=_part_tile,
    ),
    Kernel(
        "sample",
        (
            *_LOGITS,
            Tensor("temperature", "fp32", optional=True),
            Tensor("top_k", "i32", optional=True),
            Tensor("top_p", "fp32", optional=True),
            Tensor("draw", "fp32", optional=True),
            Tensor("part_peak", "fp32"),
            Tensor("part_token", "i32"),
            Tensor("counts", "i32", optional=True),
            Tensor("weights", "i64", optional=True),
            Tensor("grouped", "i32", optional=True),
            Tensor("chosen", "i32", written=True),
        ),
        sizes=(),
        constants=_CONSTANTS,
        tile_names=("PARTS", "BLOCK"),
        grid=_one_for_each_row,
        tile=_row_tile,
    ),
)

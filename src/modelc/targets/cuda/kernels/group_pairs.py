"""Sorts pairs of tokens and experts by expert, each expert's padded to whole tiles.

Every program counts all pairs, which tells it where its own expert's begin, then puts those in
order: one launch, and nothing depends on the order in which programs run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.expert_common import tile_count


@triton.jit
def group_pairs(
    ids, order, tile_expert, tokens,
    experts: tl.constexpr, used: tl.constexpr, block: tl.constexpr,
    CHUNK: tl.constexpr, EXPERTS: tl.constexpr,
):  # fmt: skip
    own = tl.program_id(0)
    pairs = tokens * used
    chunk = tl.arange(0, CHUNK)
    expert = tl.arange(0, EXPERTS)
    counts = tl.zeros((EXPERTS,), tl.int32)
    for start in range(0, pairs, CHUNK):
        pair = start + chunk
        found = tl.load(ids + pair, mask=pair < pairs, other=-1)
        counts += tl.histogram(found, EXPERTS, mask=(found >= 0) & (found < experts))
    tiles = (counts + block - 1) // block
    first = tl.sum(tl.where(expert < own, tiles, 0), 0)
    count = tl.sum(tl.where(expert == own, counts, 0), 0)
    last = first + (count + block - 1) // block

    place = first * block
    for start in range(0, pairs, CHUNK):
        pair = start + chunk
        mine = tl.load(ids + pair, mask=pair < pairs, other=-1) == own
        rank = tl.cumsum(mine.to(tl.int32), 0)
        tl.store(order + place + rank - 1, pair, mask=mine)
        place += tl.sum(mine.to(tl.int32), 0)

    row = tl.arange(0, block)
    nothing = tl.full((block,), -1, tl.int32)
    tl.store(order + place + row, nothing, mask=place + row < last * block)
    for tile in range(first, last):
        tl.store(tile_expert + tile, own)
    # The tiles that no expert uses are shared out among the programs.
    for tile in range(tl.sum(tiles, 0) + own, tile_count(tokens, experts, used, block), experts):
        tl.store(order + tile * block + row, nothing)
        tl.store(tile_expert + tile, -1)

"""Attention of one token for each sequence over a paged cache, each sequence cut into splits.

What splits found is joined by `attention_merge` (Flash-Decoding: Dao and others, 2023).
"""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.attend import attend, gain_of, nothing, values_of


@triton.jit
def attention_decode(
    queries, key_cache, value_cache, key_scale, value_scale, block_tables, lengths, partial, stats,
    max_pages,
    heads: tl.constexpr, kv_heads: tl.constexpr, head_dim: tl.constexpr, page: tl.constexpr,
    scale: tl.constexpr, softcap: tl.constexpr, window: tl.constexpr, splits: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # A program has all query heads of a key head, so that the cache is read once.
    sequence = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    group: tl.constexpr = heads // kv_heads
    members = tl.arange(0, BLOCK_M)
    columns = tl.arange(0, BLOCK_D)[None, :]
    inside = (members[:, None] < group) & (columns < head_dim)
    row = sequence * heads + kv_head * group + members
    query = tl.load(queries + row[:, None] * head_dim + columns, mask=inside, other=0.0)

    # Whole pages; the first ones that the window leaves are in no split.
    length = tl.load(lengths + sequence)
    lowest = 0
    if window > 0:
        lowest = tl.maximum(length - window, 0)
    pages = (length + page - 1) // page - lowest // page
    start = (lowest // page + pages * split // splits) * page
    stop = tl.minimum((lowest // page + pages * (split + 1) // splits) * page, length)

    places = tl.full((BLOCK_M,), 0, tl.int32) + (length - 1)
    sums, odd, top, total = nothing(value_cache, BLOCK_M, BLOCK_D)
    sums, odd, top, total = attend(
        query, places, sums, odd, top, total, start, stop, block_tables + sequence * max_pages,
        key_cache, value_cache, kv_head, gain_of(key_scale, kv_head),
        kv_heads, head_dim, page, scale, softcap, window, True, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    sums = values_of(sums, odd, value_cache, value_scale, kv_head)
    place = row * splits + split
    tl.store(partial + place[:, None] * head_dim + columns, sums, mask=inside)
    tl.store(stats + place * 2, top, mask=members < group)
    tl.store(stats + place * 2 + 1, total, mask=members < group)

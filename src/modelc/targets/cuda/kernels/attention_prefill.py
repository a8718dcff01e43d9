"""Attention of many tokens for each sequence over a paged cache that holds them already."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.attend import attend, gain_of, nothing, values_of


@triton.jit
def attention_prefill(
    queries, key_cache, value_cache, key_scale, value_scale, block_tables, starts, lengths, out,
    tokens, max_pages,
    heads: tl.constexpr, kv_heads: tl.constexpr, head_dim: tl.constexpr, page: tl.constexpr,
    scale: tl.constexpr, softcap: tl.constexpr, window: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    # The last blocks see the most keys: they begin first.
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    sequence = tl.program_id(2)
    begin = tl.load(starts + sequence)
    end = tl.load(starts + sequence + 1)
    # Tokens behind the last sequence belong to none, and become 0.
    written = end
    if sequence == tl.num_programs(2) - 1:
        written = tokens
    if begin + block * BLOCK_M >= written:
        return
    rows = begin + block * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.arange(0, BLOCK_D)[None, :]
    cells = rows.to(tl.int64)[:, None] * (heads * head_dim) + head * head_dim + columns
    inside = columns < head_dim
    query = tl.load(queries + cells, mask=(rows[:, None] < end) & inside, other=0.0)

    length = tl.load(lengths + sequence)
    place = length - (end - begin) + block * BLOCK_M  # of the first row
    places = place + tl.arange(0, BLOCK_M)
    # Keys of `start..full` some rows see (the window), of `full..edge` all, of `edge..stop` some.
    stop = tl.minimum(place + BLOCK_M, length)
    start = 0
    full = 0
    if window > 0:
        # Of pages that the window has left the table may know nothing any more.
        step: tl.constexpr = page if page < BLOCK_N else BLOCK_N
        start = tl.maximum(place - window + 1, 0) // step * step
        full = start + tl.cdiv(tl.maximum(stop - window - start, 0), BLOCK_N) * BLOCK_N
    edge = start + tl.maximum(place + 1 - start, 0) // BLOCK_N * BLOCK_N
    edge = tl.maximum(edge, full)
    if begin + block * BLOCK_M >= end:
        stop, start, full, edge = 0, 0, 0, 0

    kv_head = head // (heads // kv_heads)
    table = block_tables + sequence.to(tl.int64) * max_pages
    key_gain = gain_of(key_scale, kv_head)
    sums, odd, top, total = nothing(value_cache, BLOCK_M, BLOCK_D)
    if window > 0:
        sums, odd, top, total = attend(
            query, places, sums, odd, top, total, start, tl.minimum(full, stop), table,
            key_cache, value_cache, kv_head, key_gain,
            kv_heads, head_dim, page, scale, softcap, window, True, BLOCK_N, BLOCK_D,
        )  # fmt: skip
    sums, odd, top, total = attend(
        query, places, sums, odd, top, total, full, edge, table,
        key_cache, value_cache, kv_head, key_gain,
        kv_heads, head_dim, page, scale, softcap, window, False, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    sums, odd, top, total = attend(
        query, places, sums, odd, top, total, edge, stop, table,
        key_cache, value_cache, kv_head, key_gain,
        kv_heads, head_dim, page, scale, softcap, window, True, BLOCK_N, BLOCK_D,
    )  # fmt: skip
    mean = values_of(sums, odd, value_cache, value_scale, kv_head) / total[:, None]
    mean = tl.where(rows[:, None] < end, mean, 0.0)
    tl.store(out + cells, mean.to(out.dtype.element_ty), mask=(rows[:, None] < written) & inside)

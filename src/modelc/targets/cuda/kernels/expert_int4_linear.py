"""Grouped matrix product with 4-bit weights in groups along a row.

Weights are the left operand: decoded, they go from registers into the tensor cores. A group's low
nibbles are its first half and the high ones its second, so a step is two products of half a group.
"""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.expert_common import (
    gated,
    rows_of,
    store_pairs,
    tile_and_column,
    tile_count,
)


@triton.jit
def expert_int4_linear(
    x, codes, scales, zeros, order, tile_expert, out, tokens,
    N: tl.constexpr, K: tl.constexpr, group: tl.constexpr, experts: tl.constexpr,
    used: tl.constexpr, block: tl.constexpr, activation: tl.constexpr, shared_input: tl.constexpr,
    BLOCK_N: tl.constexpr, GROUPS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    GATED: tl.constexpr = activation != "none"
    HALF: tl.constexpr = group // 2
    COUNT: tl.constexpr = K // group
    tl.static_assert(COUNT % GROUPS == 0)
    tiles = tile_count(tokens, experts, used, block)
    tile, column_block = tile_and_column(tiles, tl.cdiv(N, BLOCK_N), GROUP)
    expert = tl.load(tile_expert + tile)
    if expert < 0:
        return
    pairs = tl.load(order + tile * block + tl.arange(0, block))
    column = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
    byte = tl.arange(0, HALF)
    height = (2 if GATED else 1) * N
    weight_row = expert.to(tl.int64) * height + tl.minimum(column, N - 1)
    x_at = x + rows_of(pairs, used, shared_input)[:, None] * K + byte[None, :]
    codes_at = codes + weight_row[:, None] * (K // 2) + byte[None, :]
    group_at = weight_row * COUNT

    total = tl.zeros((BLOCK_N, block), tl.float32)
    total_up = tl.zeros((BLOCK_N, block), tl.float32)
    for first in tl.range(0, COUNT, GROUPS):
        for part in tl.static_range(GROUPS):
            index = group_at + first + part
            low_rows = tl.load(x_at + part * group)
            high_rows = tl.load(x_at + part * group + HALF)
            packed = tl.load(codes_at + part * HALF)
            total = add_group(total, low_rows, high_rows, packed, scales, zeros, index)
            if GATED:
                packed = tl.load(codes_at + N * (K // 2) + part * HALF)
                index += N * COUNT
                total_up = add_group(total_up, low_rows, high_rows, packed, scales, zeros, index)
        x_at += GROUPS * group
        codes_at += GROUPS * HALF
    if GATED:
        total = gated(total, total_up, activation)
    store_pairs(out, total.T, pairs, column, N)


@triton.jit
def add_group(total, low_rows, high_rows, packed, scales, zeros, group_at):
    """Add to `total` [columns, pairs] what one group of inputs gives."""
    scale = tl.load(scales + group_at).to(tl.float32)
    zero = 8.0 if zeros is None else tl.load(zeros + group_at).to(tl.float32)
    offset = -zero * scale
    # code * scale + offset is exact in float32, so it is rounded once.
    low = (packed & 15).to(tl.float32) * scale[:, None] + offset[:, None]
    high = (packed >> 4).to(tl.float32) * scale[:, None] + offset[:, None]
    total = tl.dot(low.to(low_rows.dtype), low_rows.T, total)
    return tl.dot(high.to(high_rows.dtype), high_rows.T, total)

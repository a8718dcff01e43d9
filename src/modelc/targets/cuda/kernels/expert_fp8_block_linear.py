"""Grouped matrix product of e4m3 with e4m3, scaled in blocks of 128.

Rows have a scale for each 128 inputs, weights one for each 128 x 128.
"""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.expert_common import (
    gated,
    load_columns,
    rows_of,
    store_pairs,
    tile_and_column,
    tile_count,
)


@triton.jit
def expert_fp8_block_linear(
    x, x_scales, w, scales, order, tile_expert, out, tokens,
    N: tl.constexpr, K: tl.constexpr, experts: tl.constexpr, used: tl.constexpr,
    block: tl.constexpr, activation: tl.constexpr, shared_input: tl.constexpr,
    BLOCK_N: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    GATED: tl.constexpr = activation != "none"
    SIDE: tl.constexpr = 128
    WHOLE: tl.constexpr = K % SIDE == 0
    # Where blocks and columns lie on one grid, a scale is one number for all columns.
    ONE: tl.constexpr = SIDE % BLOCK_N == 0 and (N % SIDE == 0 or not GATED)
    COLUMNS: tl.constexpr = 1 if ONE else BLOCK_N
    tiles = tile_count(tokens, experts, used, block)
    tile, column_block = tile_and_column(tiles, tl.cdiv(N, BLOCK_N), GROUP)
    expert = tl.load(tile_expert + tile).to(tl.int64)
    if expert < 0:
        return
    pairs = tl.load(order + tile * block + tl.arange(0, block))
    column = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, SIDE)
    height = (2 if GATED else 1) * N
    weight_row = expert * height + tl.minimum(column, N - 1)
    x_row = rows_of(pairs, used, shared_input)
    x_at = x + x_row[:, None] * K + inner[None, :]
    w_at = w + weight_row[:, None] * K + inner[None, :]

    steps = tl.cdiv(K, SIDE)
    scaled = tl.minimum(column_block * BLOCK_N + tl.arange(0, COLUMNS), N - 1)
    scales += expert * tl.cdiv(height, SIDE) * steps
    scale_at = scales + scaled // SIDE * steps
    up_scale_at = scales + (scaled + N) // SIDE * steps
    x_scale_at = x_scales + x_row * steps

    total = tl.zeros((block, BLOCK_N), tl.float32)
    total_up = tl.zeros((block, BLOCK_N), tl.float32)
    for step in tl.range(0, steps):
        rows = load_columns(x_at, K - step * SIDE, inner[None, :], WHOLE)
        weights = load_columns(w_at, K - step * SIDE, inner[None, :], WHOLE)
        x_scale = tl.load(x_scale_at + step)[:, None]
        scale = tl.load(scale_at + step)[None, :]
        total += tl.dot(rows, weights.T) * (x_scale * scale)
        if GATED:
            ups = load_columns(w_at + N * K, K - step * SIDE, inner[None, :], WHOLE)
            up_scale = tl.load(up_scale_at + step)[None, :]
            total_up += tl.dot(rows, ups.T) * (x_scale * up_scale)
        x_at += SIDE
        w_at += SIDE
    if GATED:
        total = gated(total, total_up, activation)
    store_pairs(out, total, pairs, column, N)

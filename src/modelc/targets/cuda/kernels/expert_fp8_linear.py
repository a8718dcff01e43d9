"""Grouped matrix product of e4m3 with e4m3, a scale for each row of both."""

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
def expert_fp8_linear(
    x, x_scales, w, scales, order, tile_expert, out, tokens,
    N: tl.constexpr, K: tl.constexpr, experts: tl.constexpr, used: tl.constexpr,
    block: tl.constexpr, activation: tl.constexpr, shared_input: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    GATED: tl.constexpr = activation != "none"
    WHOLE: tl.constexpr = K % BLOCK_K == 0
    tiles = tile_count(tokens, experts, used, block)
    tile, column_block = tile_and_column(tiles, tl.cdiv(N, BLOCK_N), GROUP)
    expert = tl.load(tile_expert + tile)
    if expert < 0:
        return
    pairs = tl.load(order + tile * block + tl.arange(0, block))
    column = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    height = (2 if GATED else 1) * N
    weight_row = expert.to(tl.int64) * height + tl.minimum(column, N - 1)
    x_row = rows_of(pairs, used, shared_input)
    x_at = x + x_row[:, None] * K + inner[None, :]
    w_at = w + weight_row[:, None] * K + inner[None, :]

    total = tl.zeros((block, BLOCK_N), tl.float32)
    total_up = tl.zeros((block, BLOCK_N), tl.float32)
    for start in tl.range(0, K, BLOCK_K):
        rows = load_columns(x_at, K - start, inner[None, :], WHOLE)
        weights = load_columns(w_at, K - start, inner[None, :], WHOLE)
        # Hopper's fp8 sums keep 14 bits or so: every step is added up in float32.
        total = tl.dot(rows, weights.T, total, max_num_imprecise_acc=BLOCK_K)
        if GATED:
            ups = load_columns(w_at + N * K, K - start, inner[None, :], WHOLE)
            total_up = tl.dot(rows, ups.T, total_up, max_num_imprecise_acc=BLOCK_K)
        x_at += BLOCK_K
        w_at += BLOCK_K
    x_scale = tl.load(x_scales + x_row)[:, None]
    total *= x_scale * tl.load(scales + weight_row)[None, :]
    if GATED:
        total_up *= x_scale * tl.load(scales + weight_row + N)[None, :]
        total = gated(total, total_up, activation)
    store_pairs(out, total, pairs, column, N)

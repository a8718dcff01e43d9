"""Matrix of e4m3, scaled in blocks of 128 x 128, times vector for each pair."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.expert_common import gated, load_columns, rows_of


@triton.jit
def expert_fp8_block_linear_few(
    x, w, scales, ids, out,
    N: tl.constexpr, K: tl.constexpr, used: tl.constexpr,
    activation: tl.constexpr, shared_input: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    GATED: tl.constexpr = activation != "none"
    SIDE: tl.constexpr = 128
    WHOLE: tl.constexpr = K % BLOCK_K == 0
    # Where blocks and columns lie on one grid, scales can be multiplied into the vector.
    ONE: tl.constexpr = SIDE % BLOCK_N == 0 and (N % SIDE == 0 or not GATED)
    pair = tl.program_id(0)
    expert = tl.load(ids + pair).to(tl.int64)
    first = tl.program_id(1) * BLOCK_N
    column = first + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    height = (2 if GATED else 1) * N
    weight_row = expert * height + tl.minimum(column, N - 1)
    x_at = x + rows_of(pair, used, shared_input) * K + inner
    w_at = w + weight_row[:, None] * K + inner[None, :]

    steps = tl.cdiv(K, SIDE)
    scaled = tl.minimum(first if ONE else column, N - 1)
    scales += expert * tl.cdiv(height, SIDE) * steps
    scale_at = scales + scaled // SIDE * steps
    up_scale_at = scales + (scaled + N) // SIDE * steps

    total = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    total_up = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for start in tl.range(0, K, BLOCK_K):
        row = load_columns(x_at + start, K - start, inner, WHOLE).to(tl.float32)
        weights = load_columns(w_at + start, K - start, inner[None, :], WHOLE)
        step = tl.minimum((start + inner) // SIDE, steps - 1)
        total += weights.to(tl.float32) * scaled_row(row, scale_at, step, ONE)
        if GATED:
            ups = load_columns(w_at + N * K + start, K - start, inner[None, :], WHOLE)
            total_up += ups.to(tl.float32) * scaled_row(row, up_scale_at, step, ONE)
    result = tl.sum(total, 1)
    if GATED:
        result = gated(result, tl.sum(total_up, 1), activation)
    at = out + pair.to(tl.int64) * N + column
    tl.store(at, result.to(out.dtype.element_ty), mask=column < N)


@triton.jit
def scaled_row(row, scale_at, step, ONE: tl.constexpr):
    """The vector times the scales of its blocks: [1, inputs], or a row for each column."""
    if ONE:
        scaled = (row * tl.load(scale_at + step))[None, :]
    else:
        scaled = row[None, :] * tl.load(scale_at[:, None] + step[None, :])
    return scaled

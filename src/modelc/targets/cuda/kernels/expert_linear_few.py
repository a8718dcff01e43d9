"""Matrix times vector for each pair of a token and an expert: for few tokens, read without order.

Programs of all pairs that take the same columns run side by side, so that an expert's weights come
from memory once, however many tokens chose it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.expert_common import gated, load_columns, rows_of


@triton.jit
def expert_linear_few(
    x, w, ids, out,
    N: tl.constexpr, K: tl.constexpr, used: tl.constexpr,
    activation: tl.constexpr, shared_input: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    GATED: tl.constexpr = activation != "none"
    WHOLE: tl.constexpr = K % BLOCK_K == 0
    pair = tl.program_id(0)
    expert = tl.load(ids + pair)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    inner = tl.arange(0, BLOCK_K)
    height = (2 if GATED else 1) * N
    weight_row = expert.to(tl.int64) * height + tl.minimum(column, N - 1)
    x_at = x + rows_of(pair, used, shared_input) * K + inner
    w_at = w + weight_row[:, None] * K + inner[None, :]

    total = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    total_up = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for start in tl.range(0, K, BLOCK_K):
        row = load_columns(x_at + start, K - start, inner, WHOLE).to(tl.float32)[None, :]
        weights = load_columns(w_at + start, K - start, inner[None, :], WHOLE)
        total += weights.to(tl.float32) * row
        if GATED:
            ups = load_columns(w_at + N * K + start, K - start, inner[None, :], WHOLE)
            total_up += ups.to(tl.float32) * row
    result = tl.sum(total, 1)
    if GATED:
        result = gated(result, tl.sum(total_up, 1), activation)
    at = out + pair.to(tl.int64) * N + column
    tl.store(at, result.to(out.dtype.element_ty), mask=column < N)

"""x @ w.T of many tokens, gated if there is an activation."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.blocks import block_of
from modelc.targets.cuda.kernels.weight_rows import weight_rows, write_outputs


@triton.jit
def linear(
    x, w, bias, out, tokens,
    N: tl.constexpr, K: tl.constexpr, activation: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    block_m, block_n = block_of(tokens, N, activation, BLOCK_M, BLOCK_N, GROUP_M)
    tokens_at = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = weight_rows(block_n, N, activation, BLOCK_N)
    ks = tl.arange(0, BLOCK_K)
    x_at = x + tl.minimum(tokens_at, tokens - 1).to(tl.int64)[:, None] * K + ks[None, :]
    w_at = w + rows.to(tl.int64)[:, None] * K + ks[None, :]
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        if K % BLOCK_K == 0:
            xs = tl.load(x_at + start)
            ws = tl.load(w_at + start)
        else:
            inside = (ks < K - start)[None, :]
            xs = tl.load(x_at + start, mask=inside, other=0.0)
            ws = tl.load(w_at + start, mask=inside, other=0.0)
        sums = tl.dot(xs, ws.T, sums)
    write_outputs(
        out, sums, bias, rows, block_n, tokens_at, tokens, N, activation, BLOCK_M, BLOCK_N
    )

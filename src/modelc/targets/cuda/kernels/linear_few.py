"""x @ w.T of few tokens, gated if there is an activation: reading w is what takes the time."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.weight_rows import weight_rows, write_outputs


@triton.jit
def linear_few(
    x, w, bias, out, tokens,
    N: tl.constexpr, K: tl.constexpr, activation: tl.constexpr, most: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """BLOCK_K inputs at a time, in SPLIT parts that are added up apart until the end, so that
    every warp has a part."""
    tokens_at = tl.program_id(1) * most + tl.arange(0, most)
    rows = weight_rows(tl.program_id(0), N, activation, BLOCK_N)
    PART: tl.constexpr = BLOCK_K // SPLIT
    ks = (tl.arange(0, SPLIT) * PART)[:, None, None] + tl.arange(0, PART)[None, None, :]
    x_at = x + tokens_at.to(tl.int64)[None, :, None] * K + ks
    w_at = w + rows.to(tl.int64)[None, :, None] * K + ks
    given = (tokens_at < tokens)[None, :, None]
    if most == 1:
        products = tl.zeros((SPLIT, BLOCK_N, PART), tl.float32)
    else:
        products = tl.zeros((SPLIT, most, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        if K % BLOCK_K == 0:
            xs = tl.load(x_at + start, mask=given, other=0.0)
            ws = tl.load(w_at + start)
        else:
            inside = ks < K - start
            xs = tl.load(x_at + start, mask=given & inside, other=0.0)
            ws = tl.load(w_at + start, mask=inside, other=0.0)
        if most == 1:
            products += ws.to(tl.float32) * xs.to(tl.float32)
        else:
            products = tl.dot(xs, ws.trans(0, 2, 1), products)
    sums = tl.sum(products, 0)
    if most == 1:
        sums = tl.sum(sums, 1)[None, :]
    write_outputs(
        out, sums, bias, rows, tl.program_id(0), tokens_at, tokens, N, activation, most, BLOCK_N
    )

"""x @ w.T of many tokens for weights of 4 bits, gated if there is an activation."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.blocks import block_of
from modelc.targets.cuda.kernels.nibbles import dequantised, load_scales
from modelc.targets.cuda.kernels.weight_rows import weight_rows, write_outputs


@triton.jit
def int4_linear(
    x, codes, scales, zeros, bias, out, tokens,
    N: tl.constexpr, K: tl.constexpr, activation: tl.constexpr, group: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    SWAP: tl.constexpr,
):  # fmt: skip
    """BLOCK_K is a multiple of `group`. With SWAP the product is made transposed: then a GPU takes
    the weight from registers, where it is dequantised."""
    block_m, block_n = block_of(tokens, N, activation, BLOCK_M, BLOCK_N, GROUP_M)
    tokens_at = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = weight_rows(block_n, N, activation, BLOCK_N)
    BYTES: tl.constexpr = BLOCK_K // 2
    GROUPS: tl.constexpr = BLOCK_K // group
    ks = tl.arange(0, BLOCK_K)
    bytes_at = tl.arange(0, BYTES)
    x_at = x + tl.minimum(tokens_at, tokens - 1).to(tl.int64)[:, None] * K + ks[None, :]
    codes_at = codes + rows.to(tl.int64)[:, None] * (K // 2) + bytes_at[None, :]
    groups = tl.arange(0, GROUPS)
    last = K // group - 1
    scale_rows = rows[:, None] * (K // group)
    if SWAP:
        sums = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    else:
        sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    scale, zero = load_scales(scales, zeros, scale_rows + tl.minimum(groups, last)[None, :])
    for block in range(tl.cdiv(K, BLOCK_K)):
        if K % BLOCK_K == 0:
            xs = tl.load(x_at + block * BLOCK_K)
            packed = tl.load(codes_at + block * BYTES)
        else:
            left = K - block * BLOCK_K
            xs = tl.load(x_at + block * BLOCK_K, mask=(ks < left)[None, :], other=0.0)
            packed = tl.load(
                codes_at + block * BYTES, mask=(bytes_at < left // 2)[None, :], other=0
            )
        ws = dequantised(packed, scale, zero, BLOCK_N, GROUPS, group // 2)
        ws = ws.to(x.dtype.element_ty)
        # The next block's, already: they would be waited for.
        groups_at = tl.minimum((block + 1) * GROUPS + groups, last)
        scale, zero = load_scales(scales, zeros, scale_rows + groups_at[None, :])
        sums = tl.dot(ws, xs.T, sums) if SWAP else tl.dot(xs, ws.T, sums)
    if SWAP:
        sums = sums.T
    write_outputs(
        out, sums, bias, rows, block_n, tokens_at, tokens, N, activation, BLOCK_M, BLOCK_N
    )

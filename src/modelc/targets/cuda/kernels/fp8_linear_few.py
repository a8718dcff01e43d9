"""x @ w.T of few tokens for weights in e4m3 with a scale for each row."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.fp8_few import of_one_token, of_tokens
from modelc.targets.cuda.kernels.weight_rows import weight_rows, write_outputs


@triton.jit
def fp8_linear_few(
    x, w, scales, bias, out, tokens,
    N: tl.constexpr, K: tl.constexpr, activation: tl.constexpr, most: tl.constexpr,
    BLOCK_N: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    tokens_at = tl.program_id(1) * most + tl.arange(0, most)
    rows = weight_rows(tl.program_id(0), N, activation, BLOCK_N)
    if most == 1:
        row = x + tl.program_id(1).to(tl.int64) * K
        sums = of_one_token(row, w, scales, rows, K, False, BLOCK_N, SPLIT * 128)[None, :]
    else:
        sums = of_tokens(x, w, scales, rows, tokens_at, tokens, K, False, most, BLOCK_N, SPLIT)
    sums *= tl.load(scales + rows)[None, :]
    write_outputs(
        out, sums, bias, rows, tl.program_id(0), tokens_at, tokens, N, activation, most, BLOCK_N
    )

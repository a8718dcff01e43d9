"""x @ w.T in e4m3 with a scale for each 128 inputs of a token and each 128 x 128 of the weight."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.blocks import block_of
from modelc.targets.cuda.kernels.weight_rows import weight_rows, write_outputs


@triton.jit
def fp8_block_linear(
    x, x_scales, w, scales, bias, out, tokens,
    N: tl.constexpr, K: tl.constexpr, activation: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    block_m, block_n = block_of(tokens, N, activation, BLOCK_M, BLOCK_N, GROUP_M)
    tokens_at = block_m * BLOCK_M + tl.arange(0, BLOCK_M)
    tokens_read = tl.minimum(tokens_at, tokens - 1).to(tl.int64)
    rows = weight_rows(block_n, N, activation, BLOCK_N)
    BLOCKS: tl.constexpr = (K + 127) // 128
    ks = tl.arange(0, 128)
    x_at = x + tokens_read[:, None] * K + ks[None, :]
    w_at = w + rows.to(tl.int64)[:, None] * K + ks[None, :]
    x_scales_at = x_scales + tokens_read * BLOCKS
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    x_scale = tl.load(x_scales_at)
    scale = _scales_of(scales, rows, block_n, 0, N, BLOCKS, activation, BLOCK_N)
    for block in range(BLOCKS):
        if K % 128 == 0:
            xs = tl.load(x_at + block * 128)
            ws = tl.load(w_at + block * 128)
        else:
            inside = (ks < K - block * 128)[None, :]
            xs = tl.load(x_at + block * 128, mask=inside, other=0.0)
            ws = tl.load(w_at + block * 128, mask=inside, other=0.0)
        # The next block's scales are loaded before they are needed.
        following = tl.minimum(block + 1, BLOCKS - 1)
        next_x_scale = tl.load(x_scales_at + following)
        next_scale = _scales_of(scales, rows, block_n, following, N, BLOCKS, activation, BLOCK_N)
        sums += tl.dot(xs, ws.T) * (x_scale[:, None] * scale)
        x_scale = next_x_scale
        scale = next_scale
    write_outputs(
        out, sums, bias, rows, block_n, tokens_at, tokens, N, activation, BLOCK_M, BLOCK_N
    )


@triton.jit
def _scales_of(
    scales, rows, block_n, block,
    N: tl.constexpr, BLOCKS: tl.constexpr, activation: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Return the scales of the weight's `rows` for one block of inputs, [1, BLOCK_N] or less."""
    OUTPUTS: tl.constexpr = BLOCK_N if activation == "none" else BLOCK_N // 2
    if 128 % OUTPUTS != 0 or (activation != "none" and N % OUTPUTS != 0):
        scale = tl.load(scales + rows // 128 * BLOCKS + block)[None, :]
    elif activation == "none":
        # All rows lie in one block: a thread needs one number, not one for each of its columns.
        scale = tl.load(scales + block_n * OUTPUTS // 128 * BLOCKS + block)
    else:
        gate = tl.load(scales + block_n * OUTPUTS // 128 * BLOCKS + block)
        up = tl.load(scales + (N + block_n * OUTPUTS) // 128 * BLOCKS + block)
        scale = tl.where(tl.arange(0, BLOCK_N) % 2 == 0, gate, up)[None, :]
    return scale

"""What both kernels for few tokens and weights in e4m3 do."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def of_one_token(
    x, w, scales, rows, K: tl.constexpr, blocked: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Return sums [BLOCK_N]; if `blocked`, with the scale of each 128 x 128 of the weight.

    Each thread takes chunks of 16 bytes.
    """
    CHUNKS: tl.constexpr = BLOCK_K // 16
    BLOCKS: tl.constexpr = (K + 127) // 128
    chunks = tl.arange(0, CHUNKS)
    starts = chunks[None, :, None] * 16
    # In two halves of a chunk, so that a thread loads what its weights are multiplied with.
    x_inputs = starts + (tl.arange(0, 2) * 8)[:, None, None] + tl.arange(0, 8)[None, None, :]
    w_inputs = starts + tl.arange(0, 16)[None, None, :]
    w_at = w + rows.to(tl.int64)[:, None, None] * K + w_inputs
    sums = tl.zeros((BLOCK_N, CHUNKS), tl.float32)
    for start in range(0, K, BLOCK_K):
        if K % BLOCK_K == 0:
            ws = tl.load(w_at + start)
            xs = tl.load(x + x_inputs + start)
        else:
            ws = tl.load(w_at + start, mask=w_inputs < K - start, other=0.0)
            xs = tl.load(x + x_inputs + start, mask=x_inputs < K - start, other=0.0)
        xs = xs.to(tl.float32).permute(1, 0, 2).reshape(1, CHUNKS, 16)
        products = tl.sum(ws.to(tl.float32) * xs, 2)
        if blocked:
            at = tl.minimum((start + chunks * 16) // 128, BLOCKS - 1)
            # A thread loads the scale of its chunk, not those of several.
            at = tl.max_contiguous((rows // 128 * BLOCKS)[:, None] + at[None, :], [1, 1])
            products *= tl.load(scales + at)
        sums += products
    return tl.sum(sums, 1)


@triton.jit
def of_tokens(
    x, w, scales, rows, tokens_at, tokens, K: tl.constexpr, blocked: tl.constexpr,
    most: tl.constexpr, BLOCK_N: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Return sums [most, BLOCK_N], likewise; 128 inputs for each of SPLIT parts at a time."""
    BLOCKS: tl.constexpr = (K + 127) // 128
    STEP: tl.constexpr = SPLIT * 128
    parts = tl.arange(0, SPLIT)
    ks = (parts * 128)[:, None, None] + tl.arange(0, 128)[None, None, :]
    x_at = x + tokens_at.to(tl.int64)[None, :, None] * K + ks
    w_at = w + rows.to(tl.int64)[None, :, None] * K + ks
    given = (tokens_at < tokens)[None, :, None]
    sums = tl.zeros((SPLIT, most, BLOCK_N), tl.float32)
    if blocked:
        scales_at = scales + (rows // 128 * BLOCKS)[None, :]
        scale = tl.load(scales_at + tl.minimum(parts, BLOCKS - 1)[:, None])
    for block in range(tl.cdiv(K, STEP)):
        if K % STEP == 0:
            xs = tl.load(x_at + block * STEP, mask=given, other=0.0)
            ws = tl.load(w_at + block * STEP)
        else:
            inside = ks < K - block * STEP
            xs = tl.load(x_at + block * STEP, mask=given & inside, other=0.0)
            ws = tl.load(w_at + block * STEP, mask=inside, other=0.0)
        ws = ws.to(tl.float32).to(x.dtype.element_ty).trans(0, 2, 1)
        if blocked:
            # The next block's scales are loaded before they are needed.
            following = tl.minimum((block + 1) * SPLIT + parts, BLOCKS - 1)
            next_scale = tl.load(scales_at + following[:, None])
            sums += tl.dot(xs, ws) * scale[:, None, :]
            scale = next_scale
        else:
            sums = tl.dot(xs, ws, sums)
    return tl.sum(sums, 0)

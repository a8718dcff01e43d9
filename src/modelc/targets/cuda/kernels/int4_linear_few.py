"""x @ w.T of few tokens for weights of 4 bits: reading the codes is what takes the time."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.nibbles import dequantised, load_scales
from modelc.targets.cuda.kernels.weight_rows import weight_rows, write_outputs


@triton.jit
def int4_linear_few(
    x, codes, scales, zeros, bias, out, tokens,
    N: tl.constexpr, K: tl.constexpr, activation: tl.constexpr, group: tl.constexpr,
    most: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """BLOCK_K inputs at a time, in SPLIT parts of whole groups that are added up apart until the
    end, so that every warp has a part. For one token every thread adds up its own, whatever SPLIT
    is; BLOCK_K is then best 1024 for each warp."""
    tokens_at = tl.program_id(1) * most + tl.arange(0, most)
    rows = weight_rows(tl.program_id(0), N, activation, BLOCK_N)
    if most == 1:
        sums = _of_one_token(
            x + tl.program_id(1).to(tl.int64) * K, codes, scales, zeros, rows, K, group,
            BLOCK_N, BLOCK_K,
        )[None, :]  # fmt: skip
    else:
        sums = _of_tokens(
            x, codes, scales, zeros, rows, tokens_at, tokens, K, group, most,
            BLOCK_N, BLOCK_K, SPLIT,
        )  # fmt: skip
    write_outputs(
        out, sums, bias, rows, tl.program_id(0), tokens_at, tokens, N, activation, most, BLOCK_N
    )


@triton.jit
def _of_one_token(
    x, codes, scales, zeros, rows, K: tl.constexpr, group: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Each thread takes chunks of 4 words of 8 codes; a chunk lies in one group, so that its sum is
    scaled as a whole."""
    CHUNKS: tl.constexpr = BLOCK_K // 32
    HALF: tl.constexpr = group // 2
    chunks = tl.arange(0, CHUNKS)
    # In two halves of a chunk, so that a thread loads what its codes are multiplied with.
    bytes_at = (
        chunks[None, :, None] * 16
        + (tl.arange(0, 2) * 8)[:, None, None]
        + tl.arange(0, 8)[None, None, :]
    )
    x_at = x + bytes_at + bytes_at // HALF * HALF
    words_at = (
        codes.to(tl.pointer_type(tl.int32)) + rows.to(tl.int64)[:, None, None] * (K // 8)
        + chunks[None, :, None] * 4 + tl.arange(0, 4)[None, None, :]
    )  # fmt: skip
    scale_rows = rows[:, None] * (K // group)
    sums = tl.zeros((BLOCK_N, CHUNKS), tl.float32)
    for start in range(0, K, BLOCK_K):
        if K % BLOCK_K == 0:
            words = tl.load(words_at + start // 8)
            low_xs = tl.load(x_at + start)
            high_xs = tl.load(x_at + (start + HALF))
        else:
            inside = (chunks < (K - start) // 32)[None, :, None]
            words = tl.load(words_at + start // 8, mask=inside, other=0)
            low_xs = tl.load(x_at + start, mask=inside, other=0.0)
            high_xs = tl.load(x_at + (start + HALF), mask=inside, other=0.0)
        groups = tl.minimum((start // 32 + chunks) * 32 // group, K // group - 1)
        # A thread loads the scale of its chunk, not those of several.
        scales_at = tl.max_contiguous(scale_rows + groups[None, :], [1, 1])
        scale, zero = load_scales(scales, zeros, scales_at)
        low_0, low_1, low_2, low_3 = _bytes_of_words(low_xs.to(tl.float32), CHUNKS)
        high_0, high_1, high_2, high_3 = _bytes_of_words(high_xs.to(tl.float32), CHUNKS)
        left = words << 8
        right = words >> 8
        products = _at_bit_16(words << 16) * low_0
        products += _at_bit_12(left) * high_0
        products += _at_bit_16(left) * low_1
        products += _at_bit_12(words) * high_1
        products += _at_bit_16(words) * low_2
        products += _at_bit_12(right) * high_2
        products += _at_bit_16(right) * low_3
        products += _at_bit_12(words >> 16) * high_3
        low_sum = tl.sum(low_0 + low_1 + low_2 + low_3, 2)
        high_sum = tl.sum(high_0 + high_1 + high_2 + high_3, 2)
        products = tl.sum(products, 2) - (128.0 * low_sum + 2048.0 * high_sum)
        sums += scale * (products - zero * (low_sum + high_sum))
    return tl.sum(sums, 1)


@triton.jit
def _bytes_of_words(xs, CHUNKS: tl.constexpr):
    """Part values [2, CHUNKS, 8] of bytes into those of first, second, ... bytes of words, each
    [1, CHUNKS, 4]."""
    even, odd = xs.reshape(2, CHUNKS, 2, 2, 2).split()
    zero, two = even.split()
    one, three = odd.split()
    zero = zero.permute(1, 0, 2).reshape(1, CHUNKS, 4)
    one = one.permute(1, 0, 2).reshape(1, CHUNKS, 4)
    two = two.permute(1, 0, 2).reshape(1, CHUNKS, 4)
    three = three.permute(1, 0, 2).reshape(1, CHUNKS, 4)
    return zero, one, two, three


@triton.jit
def _at_bit_16(words):
    """128 + the code that begins at bit 16, float32: there the mantissa of 128.0 has its ones."""
    return ((words & 0xF0000) | 0x43000000).to(tl.float32, bitcast=True)


@triton.jit
def _at_bit_12(words):
    """2048 + the code that begins at bit 12, float32."""
    return ((words & 0xF000) | 0x45000000).to(tl.float32, bitcast=True)


@triton.jit
def _of_tokens(
    x, codes, scales, zeros, rows, tokens_at, tokens, K: tl.constexpr, group: tl.constexpr,
    most: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    PART: tl.constexpr = BLOCK_K // SPLIT
    GROUPS: tl.constexpr = PART // group
    parts = tl.arange(0, SPLIT)[:, None, None]
    ks = parts * PART + tl.arange(0, PART)[None, None, :]
    bytes_at = parts * (PART // 2) + tl.arange(0, PART // 2)[None, None, :]
    groups = parts * GROUPS + tl.arange(0, GROUPS)[None, None, :]
    last = K // group - 1
    x_at = x + tokens_at.to(tl.int64)[None, :, None] * K + ks
    codes_at = codes + rows.to(tl.int64)[None, :, None] * (K // 2) + bytes_at
    scale_rows = rows[None, :, None] * (K // group)
    given = (tokens_at < tokens)[None, :, None]
    sums = tl.zeros((SPLIT, most, BLOCK_N), tl.float32)
    scale, zero = load_scales(scales, zeros, scale_rows + tl.minimum(groups, last))
    for block in range(tl.cdiv(K, BLOCK_K)):
        if K % BLOCK_K == 0:
            xs = tl.load(x_at + block * BLOCK_K, mask=given, other=0.0)
            packed = tl.load(codes_at + block * (BLOCK_K // 2))
        else:
            left = K - block * BLOCK_K
            xs = tl.load(x_at + block * BLOCK_K, mask=given & (ks < left), other=0.0)
            packed = tl.load(codes_at + block * (BLOCK_K // 2), mask=bytes_at < left // 2, other=0)
        ws = dequantised(
            packed, scale.reshape(SPLIT * BLOCK_N, GROUPS), zero.reshape(SPLIT * BLOCK_N, GROUPS),
            SPLIT * BLOCK_N, GROUPS, group // 2,
        )  # fmt: skip
        ws = ws.to(x.dtype.element_ty).reshape(SPLIT, BLOCK_N, PART)
        # The next block's, already: they would be waited for.
        groups_at = tl.minimum((block + 1) * (BLOCK_K // group) + groups, last)
        scale, zero = load_scales(scales, zeros, scale_rows + groups_at)
        sums = tl.dot(xs, ws.trans(0, 2, 1), sums)
    return tl.sum(sums, 0)

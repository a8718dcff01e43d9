"""Matrix of 4-bit weights times vector for each pair of a token and an expert."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.expert_common import gated, rows_of


@triton.jit
def expert_int4_linear_few(
    x, codes, scales, zeros, ids, out,
    N: tl.constexpr, K: tl.constexpr, group: tl.constexpr, used: tl.constexpr,
    activation: tl.constexpr, shared_input: tl.constexpr,
    BLOCK_N: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    GATED: tl.constexpr = activation != "none"
    HALF: tl.constexpr = group // 2
    COUNT: tl.constexpr = K // group
    pair = tl.program_id(0)
    expert = tl.load(ids + pair)
    column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    height = (2 if GATED else 1) * N
    weight_row = expert.to(tl.int64) * height + tl.minimum(column, N - 1)
    row_at = x + rows_of(pair, used, shared_input) * K

    total = tl.zeros((BLOCK_N, GROUPS), tl.float32)
    total_up = tl.zeros((BLOCK_N, GROUPS), tl.float32)
    for first in tl.range(0, COUNT, GROUPS):
        place = first + tl.arange(0, GROUPS)
        there = place < COUNT
        at = row_at + place[:, None] * group + tl.arange(0, HALF)[None, :]
        low = tl.load(at, mask=there[:, None], other=0.0).to(tl.float32)
        high = tl.load(at + HALF, mask=there[:, None], other=0.0).to(tl.float32)
        total += group_sums(low, high, codes, scales, zeros, weight_row, place, COUNT, HALF)
        if GATED:
            total_up += group_sums(
                low, high, codes, scales, zeros, weight_row + N, place, COUNT, HALF
            )  # fmt: skip
    result = tl.sum(total, 1)
    if GATED:
        result = gated(result, tl.sum(total_up, 1), activation)
    tl.store(out + pair.to(tl.int64) * N + column, result.to(out.dtype.element_ty), column < N)


@triton.jit
def group_sums(
    low, high, codes, scales, zeros, weight_row, place, COUNT: tl.constexpr, HALF: tl.constexpr
):  # fmt: skip
    """What each group of inputs gives each row of weights: [rows, groups]; low and high are
    [groups, half a group]."""
    at = weight_row[:, None] * COUNT + place[None, :]
    there = (place < COUNT)[None, :]
    packed = tl.load(
        codes + at[:, :, None] * HALF + tl.arange(0, HALF)[None, None, :],
        mask=there[:, :, None], other=0,
    )  # fmt: skip
    scale = tl.load(scales + at, mask=there, other=0.0).to(tl.float32)
    products = (packed & 15).to(tl.float32) * low[None, :, :]
    products += (packed >> 4).to(tl.float32) * high[None, :, :]
    # The zero point is the same for a whole group: it is taken off the sum.
    inputs = tl.sum(low + high, 1)[None, :]
    zero = 8.0 if zeros is None else tl.load(zeros + at, mask=there, other=0).to(tl.float32)
    return (tl.sum(products, 2) - zero * inputs) * scale

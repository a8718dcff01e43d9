"""Which block of a matrix product a program makes."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def block_of(
    tokens, N: tl.constexpr, activation: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, GROUP_M: tl.constexpr,
):  # fmt: skip
    """Return the block of tokens and the one of the weight's rows.

    Programs that run at the same time share rows of both factors in the L2 cache: they go through
    GROUP_M blocks of tokens before the next block of the weight.
    """
    ROWS: tl.constexpr = N if activation == "none" else 2 * N
    ACROSS: tl.constexpr = (ROWS + BLOCK_N - 1) // BLOCK_N
    program = tl.program_id(0)
    group = program // (GROUP_M * ACROSS)
    first = group * GROUP_M
    height = tl.minimum(tl.cdiv(tokens, BLOCK_M) - first, GROUP_M)
    within = program - first * ACROSS
    return first + within % height, within // height

"""How linear kernels pair a gate with what it gates: the rows of the weight that a program takes
are interleaved, gate and up by turns, so that both of an output lie in one thread at the end."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def weight_rows(block, N: tl.constexpr, activation: tl.constexpr, BLOCK_N: tl.constexpr):
    """Return which rows of the weight [N or 2 * N, K] block `block` of BLOCK_N takes; beyond the
    end the last one again, which costs less than a mask."""
    wide = block * BLOCK_N + tl.arange(0, BLOCK_N)
    if activation == "none":
        rows = tl.minimum(wide, N - 1)
    else:
        rows = tl.minimum(wide // 2, N - 1) + (wide % 2) * N
    return rows


@triton.jit
def write_outputs(
    out, sums, bias, rows, block, tokens_at, tokens,
    N: tl.constexpr, activation: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write sums [BLOCK_M, BLOCK_N] of the tokens `tokens_at` and the weight's `rows`: bias added,
    gate and up joined."""
    if bias is not None:
        sums += tl.load(bias + rows)[None, :]
    if activation == "none":
        OUTPUTS: tl.constexpr = BLOCK_N
        outputs = sums
    else:
        OUTPUTS: tl.constexpr = BLOCK_N // 2
        gate, up = sums.reshape(BLOCK_M, OUTPUTS, 2).split()
        outputs = _active(gate, activation) * up
    columns = block * OUTPUTS + tl.arange(0, OUTPUTS)
    at = out + tokens_at.to(tl.int64)[:, None] * N + columns[None, :]
    real = (tokens_at < tokens)[:, None] & (columns < N)[None, :]
    tl.store(at, outputs.to(out.dtype.element_ty), mask=real)


@triton.jit
def _active(gate, activation: tl.constexpr):
    tl.static_assert(activation == "silu" or activation == "gelu" or activation == "gelu_tanh")
    if activation == "silu":
        active = gate * tl.sigmoid(gate)
    elif activation == "gelu":
        active = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    else:
        # 0.5 * (1 + tanh(u)) is sigmoid(2 * u); 2 * sqrt(2 / pi).
        inner = 1.5957691216057308 * gate * (1.0 + 0.044715 * gate * gate)
        active = gate * tl.sigmoid(inner)
    return active

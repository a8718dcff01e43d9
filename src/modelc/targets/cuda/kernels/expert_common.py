"""What the kernels of experts share: which tile is whose, which rows it takes, the gate."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_count(tokens, experts: tl.constexpr, used: tl.constexpr, block: tl.constexpr):
    """Tiles of `block` pairs that suffice whatever experts are chosen; see rows/experts.py."""
    return tl.cdiv(tokens, block) * used + experts - 1


@triton.jit
def tile_and_column(tiles, columns: tl.constexpr, GROUP: tl.constexpr):
    """The tile of pairs and the block of columns that this program computes.

    GROUP tiles go through the columns together: programs that run at the same time share rows,
    and those of one expert its weights, in the L2 cache."""
    program = tl.program_id(0)
    first = program // (GROUP * columns) * GROUP
    height = tl.minimum(tiles - first, GROUP)
    inside = program % (GROUP * columns)
    return first + inside % height, inside // height


@triton.jit
def rows_of(pairs, used: tl.constexpr, shared_input: tl.constexpr):
    """Rows of x that pairs take; a missing pair (-1) takes the first, and nobody stores it."""
    pairs = tl.maximum(pairs, 0)
    rows = pairs // used if shared_input else pairs
    return rows.to(tl.int64)


@triton.jit
def load_columns(at, left, columns, whole: tl.constexpr):
    """Load a block, of whose columns only the first `left` exist unless it is `whole`."""
    return tl.load(at) if whole else tl.load(at, mask=columns < left, other=0.0)


@triton.jit
def gated(gate, up, activation: tl.constexpr):
    """activation(gate) * up."""
    if activation == "silu":
        opened = gate * tl.sigmoid(gate)
    elif activation == "gelu":
        opened = gate * 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))
    else:
        tl.static_assert(activation == "gelu_tanh")
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        opened = gate * tl.sigmoid(2.0 * inner)
    return opened * up


@triton.jit
def store_pairs(out, total, pairs, column, N: tl.constexpr):
    """Store a block [pairs, columns] of what the pairs gave."""
    at = out + pairs.to(tl.int64)[:, None] * N + column[None, :]
    inside = (pairs >= 0)[:, None] & (column < N)[None, :]
    tl.store(at, total.to(out.dtype.element_ty), mask=inside)

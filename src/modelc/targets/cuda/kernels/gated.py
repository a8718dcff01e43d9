"""A gated feed-forward's middle: activation(gate) * up, which lie side by side in each token."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.activations import activated


@triton.jit
def gated(x, out, width: tl.constexpr, activation: tl.constexpr, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    gates = x + token * (2 * width) + columns
    gate = tl.load(gates, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gates + width, mask=inside, other=0.0).to(tl.float32)
    product = activated(gate, activation) * up
    tl.store(out + token * width + columns, product.to(out.dtype.element_ty), mask=inside)

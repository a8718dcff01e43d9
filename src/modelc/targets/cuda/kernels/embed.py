"""Rows of the embedding table, scaled; zeros for ids that it doesn't have."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def embed(
    token_ids, table, out,
    vocab: tl.constexpr, width: tl.constexpr, scale: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    identity = tl.load(token_ids + token).to(tl.int64)
    known = (identity >= 0) & (identity < vocab)
    values = tl.load(table + identity * width + columns, mask=inside & known, other=0.0)
    if scale != 1.0:
        values = (values.to(tl.float32) * scale).to(out.dtype.element_ty)
    tl.store(out + token * width + columns, values, mask=inside)

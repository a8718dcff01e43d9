"""Attention of the last tokens of each sequence to those that the cache holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.paged import gather, logits

if TYPE_CHECKING:
    import torch


def attention_prefill(
    *,
    queries: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    key_scale: torch.Tensor | None,
    value_scale: torch.Tensor | None,
    block_tables: torch.Tensor,
    starts: torch.Tensor,
    lengths: torch.Tensor,
    out: torch.Tensor,
    heads: int,
    kv_heads: int,
    head_dim: int,
    page: int,
    scale: float,
    softcap: float,
    window: int,
) -> None:
    """queries and out [tokens, heads * head_dim]; tokens of no sequence become 0."""
    out.zero_()
    for sequence, length in enumerate(lengths.tolist()):
        begin, end = starts[sequence : sequence + 2].tolist()
        if begin == end:
            continue
        keys = gather(key_cache, key_scale, block_tables[sequence], length)
        values = gather(value_cache, value_scale, block_tables[sequence], length)
        mine = queries[begin:end].view(-1, heads, head_dim)
        weights = logits(mine, keys, scale=scale, softcap=softcap, window=window).softmax(-1)
        sums = weights @ values.repeat_interleave(heads // kv_heads, 0)
        out[begin:end] = sums.transpose(0, 1).flatten(1).to(out.dtype)

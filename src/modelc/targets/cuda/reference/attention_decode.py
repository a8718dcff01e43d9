"""Attention of each sequence's last token to splits of what the cache holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.paged import gather, logits

if TYPE_CHECKING:
    import torch


def attention_decode(
    *,
    queries: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    key_scale: torch.Tensor | None,
    value_scale: torch.Tensor | None,
    block_tables: torch.Tensor,
    lengths: torch.Tensor,
    partial: torch.Tensor,
    stats: torch.Tensor,
    heads: int,
    kv_heads: int,
    head_dim: int,
    page: int,
    scale: float,
    softcap: float,
    window: int,
    splits: int,
) -> None:
    """partial [sequences, heads, splits, head_dim]: sums of values, each times 2**(score - top);
    stats [sequences, heads, splits, 2]: top, the greatest score (a logit times log2(e)), and the
    sum of those powers. A split without keys has 0, -inf and 0.

    A sequence's pages, but for those that the window has left, are shared out evenly: split i of n
    has pages i * pages // n up to (i + 1) * pages // n.
    """
    partial.zero_()
    stats[..., 0] = -math.inf
    stats[..., 1] = 0
    for sequence, length in enumerate(lengths.tolist()):
        keys = gather(key_cache, key_scale, block_tables[sequence], length)
        values = gather(value_cache, value_scale, block_tables[sequence], length)
        values = values.repeat_interleave(heads // kv_heads, 0)
        mine = queries[sequence].view(1, heads, head_dim)
        if length == 0:
            continue
        scores = logits(mine, keys, scale=scale, softcap=softcap, window=window)[:, 0] * math.log2(
            math.e
        )
        lowest = max(length - window, 0) // page if window else 0
        pages = -(-length // page) - lowest
        for split in range(splits):
            start = (lowest + pages * split // splits) * page
            stop = min((lowest + pages * (split + 1) // splits) * page, length)
            if start < stop:
                top = scores[:, start:stop].amax(1)
                weights = (scores[:, start:stop] - top[:, None]).exp2()
                sums = weights[:, None] @ values[:, start:stop]
                partial[sequence, :, split] = sums[:, 0]
                stats[sequence, :, split, 0] = top
                stats[sequence, :, split, 1] = weights.sum(1)

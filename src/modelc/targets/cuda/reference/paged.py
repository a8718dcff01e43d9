"""Attention over a paged cache, sequence by sequence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def gather(
    cache: torch.Tensor, scale: torch.Tensor | None, table: torch.Tensor, length: int
) -> torch.Tensor:
    """Return float32 [kv_heads, length, head_dim] of a cache [pages, kv_heads, page, head_dim] (or
    its bytes), where `table` lists a sequence's pages."""
    import torch

    page = cache.shape[2]
    if cache.dtype == torch.uint8:
        cache = cache.view(torch.float8_e4m3fn)
    numbers = table[: -(-length // page)].long()
    rows = cache[numbers].float().transpose(0, 1).flatten(1, 2)[:, :length]
    return rows if scale is None else rows * scale[:, None, None]


def logits(
    queries: torch.Tensor, keys: torch.Tensor, *, scale: float, softcap: float, window: int
) -> torch.Tensor:
    """Return [heads, count, length]: -inf where a query doesn't see a key.

    Args:
        queries: [count, heads, head_dim], of the last positions.
        keys: [kv_heads, length, head_dim].
    """
    import torch

    count, heads, _ = queries.shape
    keys = keys.repeat_interleave(heads // len(keys), 0)
    scores = queries.float().transpose(0, 1) @ keys.transpose(1, 2) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    key = torch.arange(keys.shape[1])
    query = key[len(key) - count :, None]
    seen = key <= query
    if window:
        seen &= key > query - window
    return scores.masked_fill(~seen, -math.inf)

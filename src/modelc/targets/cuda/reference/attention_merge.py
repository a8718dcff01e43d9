"""The attention that splits give together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def attention_merge(
    *,
    partial: torch.Tensor,
    stats: torch.Tensor,
    out: torch.Tensor,
    heads: int,
    head_dim: int,
    splits: int,
) -> None:
    """partial and stats as `attention_decode` leaves them, out [sequences, heads * head_dim]: 0
    where no split has a key."""
    tops, totals = stats.unbind(-1)
    weights = (tops - tops.amax(-1, keepdim=True)).exp2().nan_to_num(0)
    total = (weights * totals).sum(-1, keepdim=True)
    sums = (partial * weights[..., None]).sum(-2)
    out.copy_((sums / total).nan_to_num(0).flatten(1))

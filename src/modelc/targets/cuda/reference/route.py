"""Softmax over all experts, the `used` largest, the lower one first among equals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def route(
    *,
    logits: torch.Tensor,
    ids: torch.Tensor,
    shares: torch.Tensor,
    experts: int,
    used: int,
    normalise: bool,
) -> None:
    """logits [tokens, experts], ids and shares [tokens, used]. NaN counts as the lowest when
    experts are chosen, and makes all shares of its token NaN."""
    probabilities = logits.softmax(-1)
    rank = logits.nan_to_num(nan=-float("inf"), posinf=float("inf"), neginf=-float("inf"))
    chosen = rank.sort(dim=-1, descending=True, stable=True).indices[:, :used]
    parts = probabilities.gather(-1, chosen)
    ids.copy_(chosen)
    shares.copy_(parts / parts.sum(-1, keepdim=True) if normalise else parts)

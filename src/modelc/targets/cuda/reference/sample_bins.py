"""How many tokens each bin holds, and what they weigh together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.sampling_order import standing, weights_and_bins

if TYPE_CHECKING:
    import torch


def sample_bins(
    *,
    logits: torch.Tensor,
    penalty: torch.Tensor | None,
    seen: torch.Tensor | None,
    temperature: torch.Tensor,
    part_peak: torch.Tensor,
    counts: torch.Tensor,
    weights: torch.Tensor,
    vocab: int,
    part: int,
    bins: int,
) -> None:
    """As `sample_peak`, and temperature [rows]."""
    each, places = weights_and_bins(standing(logits, penalty, seen), temperature, bins)
    counts.scatter_add_(-1, places.long(), (each > 0).int())
    weights.scatter_add_(-1, places.long(), each)

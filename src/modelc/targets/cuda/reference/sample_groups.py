"""The ids of each bin side by side, bin after bin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.sampling_order import standing, weights_and_bins

if TYPE_CHECKING:
    import torch


def sample_groups(
    *,
    logits: torch.Tensor,
    penalty: torch.Tensor | None,
    seen: torch.Tensor | None,
    temperature: torch.Tensor,
    part_peak: torch.Tensor,
    counts: torch.Tensor,
    filled: torch.Tensor,
    grouped: torch.Tensor,
    vocab: int,
    part: int,
    bins: int,
) -> None:
    """As `sample_bins`, and grouped [rows, vocab], whose rows are filled from the left."""
    each, places = weights_and_bins(standing(logits, penalty, seen), temperature, bins)
    filled.scatter_add_(-1, places.long(), (each > 0).int())
    for row, (weights, bin_of) in enumerate(zip(each, places, strict=True)):
        ids = bin_of.sort(stable=True).indices
        ids = ids[weights[ids] > 0]
        grouped[row, : len(ids)] = ids.int()

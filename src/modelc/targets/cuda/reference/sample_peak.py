"""The likeliest token of each part of a row, the lower id among equals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.sampling_order import standing

if TYPE_CHECKING:
    import torch


def sample_peak(
    *,
    logits: torch.Tensor,
    penalty: torch.Tensor | None,
    seen: torch.Tensor | None,
    part_peak: torch.Tensor,
    part_token: torch.Tensor,
    counts: torch.Tensor | None,
    weights: torch.Tensor | None,
    filled: torch.Tensor | None,
    vocab: int,
    part: int,
    bins: int,
) -> None:
    """logits and seen [rows, vocab], penalty [rows], part_peak and part_token [rows, parts],
    counts, weights and filled [rows, bins]: zeros."""
    every = standing(logits, penalty, seen)
    for index in range(part_peak.shape[-1]):
        values = every[:, index * part : (index + 1) * part]
        peak = values.amax(-1)
        part_peak[:, index] = peak
        part_token[:, index] = index * part + (values == peak[:, None]).int().argmax(-1)
    for empty in (counts, weights, filled):
        if empty is not None:
            empty.zero_()

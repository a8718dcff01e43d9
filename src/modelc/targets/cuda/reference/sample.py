"""Each row's token: repetition penalty, temperature, top-k, top-p, and the draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.sampling_order import standing

if TYPE_CHECKING:
    import torch


def sample(
    *,
    logits: torch.Tensor,
    penalty: torch.Tensor | None,
    seen: torch.Tensor | None,
    temperature: torch.Tensor | None,
    top_k: torch.Tensor | None,
    top_p: torch.Tensor | None,
    draw: torch.Tensor | None,
    part_peak: torch.Tensor,
    part_token: torch.Tensor,
    counts: torch.Tensor | None,
    weights: torch.Tensor | None,
    grouped: torch.Tensor | None,
    chosen: torch.Tensor,
    vocab: int,
    part: int,
    bins: int,
) -> None:
    """logits and seen [rows, vocab], all others [rows]; what the kernels before it left is not
    looked at. Without a draw, or at temperature 0, it is the likeliest token."""
    for row, values in enumerate(standing(logits, penalty, seen)):
        order = values.argsort(descending=True, stable=True)
        if draw is None or temperature is None or not temperature[row] > 0:
            chosen[row] = order[0]
            continue
        scaled = (values[order].double() - values[order[0]]) / temperature[row]
        k = int(top_k[row]) if top_k is not None else 0
        shares = _shares(scaled[: k if k > 0 else vocab].exp())
        if top_p is not None and top_p[row] < 1:
            # The smallest set of most likely tokens whose mass reaches top_p.
            kept = int((shares.cumsum(0) < top_p[row]).sum()) + 1
            shares = _shares(shares[:kept])
        place = int((shares.cumsum(0) <= draw[row]).sum())
        chosen[row] = order[min(place, len(shares) - 1)]


def _shares(weights: torch.Tensor) -> torch.Tensor:
    return weights / weights.sum()

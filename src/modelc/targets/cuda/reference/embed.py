"""Rows of the embedding table, scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def embed(
    *,
    token_ids: torch.Tensor,
    table: torch.Tensor,
    out: torch.Tensor,
    vocab: int,
    width: int,
    scale: float,
) -> None:
    """token_ids [tokens], table [vocab, width], out [tokens, width]: zeros for ids that the table
    doesn't have."""
    ids = token_ids.long()
    known = (ids >= 0) & (ids < vocab)
    rows = table[ids.clamp(0, vocab - 1)].float() * scale
    out.copy_(rows * known[:, None])

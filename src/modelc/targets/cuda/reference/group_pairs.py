"""Pairs in the order of their experts, padded with -1 to whole tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def group_pairs(
    *,
    ids: torch.Tensor,
    order: torch.Tensor,
    tile_expert: torch.Tensor,
    experts: int,
    used: int,
    block: int,
) -> None:
    """ids [tokens, used], order [tiles * block], tile_expert [tiles]. What is left over is -1."""
    order.fill_(-1)
    tile_expert.fill_(-1)
    tile = 0
    for expert in range(experts):
        pairs = (ids.flatten() == expert).nonzero().flatten()
        order[tile * block : tile * block + len(pairs)] = pairs.int()
        tiles = -(-len(pairs) // block)
        tile_expert[tile : tile + tiles] = expert
        tile += tiles

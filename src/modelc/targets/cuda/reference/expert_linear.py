"""Each pair's row times its expert's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.experts import each_pair, experts_in_order, pair_rows

if TYPE_CHECKING:
    import torch


def expert_linear(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    order: torch.Tensor,
    tile_expert: torch.Tensor,
    out: torch.Tensor,
    N: int,
    K: int,
    experts: int,
    used: int,
    block: int,
    activation: str,
    shared_input: bool,
) -> None:
    """x [tokens or pairs, K], w [experts * height, K], order and tile_expert of `group_pairs`, out
    [pairs, N]; height is N, with an activation 2N."""
    height = N if activation == "none" else 2 * N
    weights = w.view(-1, height, K)
    expert_of_pair = experts_in_order(order, tile_expert, block, len(out))
    rows = pair_rows(x, used, shared_input)
    out.copy_(each_pair(rows, weights, expert_of_pair, activation))

"""Each pair's row times its expert's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.experts import each_pair, pair_rows

if TYPE_CHECKING:
    import torch


def expert_linear_few(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    ids: torch.Tensor,
    out: torch.Tensor,
    N: int,
    K: int,
    used: int,
    activation: str,
    shared_input: bool,
) -> None:
    """x [tokens or pairs, K], w [experts * height, K], ids [tokens, used], out [pairs, N]; height
    is N, with an activation 2N."""
    height = N if activation == "none" else 2 * N
    weights = w.view(-1, height, K)
    expert_of_pair = ids.flatten()
    rows = pair_rows(x, used, shared_input)
    out.copy_(each_pair(rows, weights, expert_of_pair, activation))

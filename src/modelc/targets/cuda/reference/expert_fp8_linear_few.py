"""Each pair's row times its expert's e4m3 weights, a scale for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.experts import each_pair, pair_rows

if TYPE_CHECKING:
    import torch


def expert_fp8_linear_few(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    scales: torch.Tensor,
    ids: torch.Tensor,
    out: torch.Tensor,
    N: int,
    K: int,
    used: int,
    activation: str,
    shared_input: bool,
) -> None:
    """x [tokens or pairs, K], w [experts * height, K], scales [experts * height], ids [tokens,
    used], out [pairs, N]; height is N, with an activation 2N."""
    height = N if activation == "none" else 2 * N
    weights = (w.float() * scales[:, None]).view(-1, height, K)
    expert_of_pair = ids.flatten()
    rows = pair_rows(x, used, shared_input)
    out.copy_(each_pair(rows, weights, expert_of_pair, activation))

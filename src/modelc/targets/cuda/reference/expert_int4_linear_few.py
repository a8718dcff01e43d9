"""Each pair's row times its expert's 4-bit weights in groups along a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.experts import decoded_int4, each_pair, pair_rows

if TYPE_CHECKING:
    import torch


def expert_int4_linear_few(
    *,
    x: torch.Tensor,
    codes: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None,
    ids: torch.Tensor,
    out: torch.Tensor,
    N: int,
    K: int,
    group: int,
    used: int,
    activation: str,
    shared_input: bool,
) -> None:
    """x [tokens or pairs, K], codes [experts * height, K / 2], scales and zeros [experts * height,
    K / group], ids [tokens, used], out [pairs, N]; height is N, with an activation 2N."""
    height = N if activation == "none" else 2 * N
    weights = decoded_int4(codes, scales, zeros, group).view(-1, height, K)
    expert_of_pair = ids.flatten()
    rows = pair_rows(x, used, shared_input)
    out.copy_(each_pair(rows, weights, expert_of_pair, activation))

"""Each pair's row times its expert's e4m3 weights, a scale for each block of 128 x 128."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.experts import each_pair, pair_rows, scaled_blocks

if TYPE_CHECKING:
    import torch


def expert_fp8_block_linear_few(
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
    """x [tokens or pairs, K], w [experts * height, K], scales [experts * ceil(height / 128),
    ceil(K / 128)], ids [tokens, used], out [pairs, N]; height is N, with an activation 2N."""
    height = N if activation == "none" else 2 * N
    weights = scaled_blocks(w, scales, height)
    expert_of_pair = ids.flatten()
    rows = pair_rows(x, used, shared_input)
    out.copy_(each_pair(rows, weights, expert_of_pair, activation))

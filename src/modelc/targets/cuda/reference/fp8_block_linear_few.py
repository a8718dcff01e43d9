"""x @ w.T for weights in e4m3, scaled in blocks of 128 x 128."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.fp8_values import block_values
from modelc.targets.cuda.reference.linear_outputs import write_outputs

if TYPE_CHECKING:
    import torch


def fp8_block_linear_few(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    N: int,
    K: int,
    activation: str,
    most: int,
) -> None:
    """x [tokens, K], w [N or 2 * N, K], out [tokens, N]."""
    write_outputs(out, x.float() @ block_values(w, scales).T, bias, activation)

"""x @ w.T in e4m3, tokens and rows scaled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.linear_outputs import write_outputs

if TYPE_CHECKING:
    import torch


def fp8_linear(
    *,
    x: torch.Tensor,
    x_scales: torch.Tensor,
    w: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    N: int,
    K: int,
    activation: str,
) -> None:
    """x [tokens, K], x_scales [tokens], w [N or 2 * N, K], scales by its rows, out [tokens, N]."""
    sums = (x.float() @ w.float().T) * x_scales.unsqueeze(-1) * scales
    write_outputs(out, sums, bias, activation)

"""x @ w.T in e4m3, scaled in blocks of 128 inputs and 128 rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.fp8_values import block_values
from modelc.targets.cuda.reference.linear_outputs import write_outputs

if TYPE_CHECKING:
    import torch


def fp8_block_linear(
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
    """x [tokens, K], x_scales [tokens, ceil(K / 128)], w [N or 2 * N, K], out [tokens, N]."""
    values = x.float() * x_scales.repeat_interleave(128, -1)[:, :K]
    write_outputs(out, values @ block_values(w, scales).T, bias, activation)

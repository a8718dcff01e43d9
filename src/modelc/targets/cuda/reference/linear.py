"""x @ w.T, gated if there is an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.linear_outputs import write_outputs

if TYPE_CHECKING:
    import torch


def linear(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    N: int,
    K: int,
    activation: str,
) -> None:
    """x [tokens, K], w [N or 2 * N, K], out [tokens, N]."""
    write_outputs(out, x.float() @ w.float().T, bias, activation)

"""As `linear`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.linear import linear

if TYPE_CHECKING:
    import torch


def linear_few(
    *,
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    N: int,
    K: int,
    activation: str,
    most: int,
) -> None:
    """x [tokens, K], w [N or 2 * N, K], out [tokens, N]."""
    linear(x=x, w=w, bias=bias, out=out, N=N, K=K, activation=activation)

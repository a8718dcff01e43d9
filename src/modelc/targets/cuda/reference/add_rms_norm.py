"""x + residual, rounded, and its norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.rms_norm import rms_norm

if TYPE_CHECKING:
    import torch


def add_rms_norm(
    *,
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    total: torch.Tensor,
    out: torch.Tensor,
    width: int,
    epsilon: float,
) -> None:
    """x, residual, total and out [tokens, width], weight [width]."""
    total.copy_(x.float() + residual.float())
    rms_norm(x=total, weight=weight, out=out, width=width, epsilon=epsilon)

"""x / rms(x) * weight over the last axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def rms_norm(
    *, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, width: int, epsilon: float
) -> None:
    """x and out [tokens, width], weight [width]."""
    values = x.float()
    scale = values.square().mean(-1, keepdim=True).add(epsilon).rsqrt()
    out.copy_(values * scale * weight)

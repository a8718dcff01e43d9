"""x + sigmoid(gate) * y."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def add_gated(
    *, x: torch.Tensor, y: torch.Tensor, gate: torch.Tensor, out: torch.Tensor, width: int
) -> None:
    """x, y and out [tokens, width], gate [tokens, 1]."""
    out.copy_(x.float() + gate.float().sigmoid() * y.float())

"""activation(gate) * up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.activations import activated

if TYPE_CHECKING:
    import torch


def gated(*, x: torch.Tensor, out: torch.Tensor, width: int, activation: str) -> None:
    """x [tokens, 2 * width], gate before up; out [tokens, width]."""
    gate, up = x.float().chunk(2, -1)
    out.copy_(activated(gate, activation) * up)

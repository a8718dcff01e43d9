"""cap * tanh(x / cap)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def softcap(*, logits: torch.Tensor, width: int, cap: float) -> None:
    """logits [rows, width], in place."""
    logits.copy_(cap * (logits / cap).tanh())

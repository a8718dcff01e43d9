"""What e4m3 with scales stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def block_values(w: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return float32 [rows, K] of w [rows, K] and scales [ceil(rows / 128), ceil(K / 128)]."""
    rows, inputs = w.shape
    wide = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
    return w.float() * wide[:rows, :inputs]

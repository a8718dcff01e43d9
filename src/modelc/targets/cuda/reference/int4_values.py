"""What 4-bit codes stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def int4_values(
    codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None, group: int
) -> torch.Tensor:
    """Return float32 [rows, K] of codes [rows, K / 2], scales and zeros [rows, K / group].

    In a group, byte j holds the code of input j in its low nibble, that of input j + group / 2 in
    its high one. Without zeros the zero point is 8.
    """
    import torch

    rows = codes.shape[0]
    packed = codes.reshape(rows, -1, group // 2)
    values = torch.cat([packed & 15, packed >> 4], -1).float()
    values = values - (8.0 if zeros is None else zeros.float().unsqueeze(-1))
    return (values * scales.float().unsqueeze(-1)).reshape(rows, -1)

"""The weighted sum of what a token's experts gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def combine(
    *, y: torch.Tensor, shares: torch.Tensor, out: torch.Tensor, used: int, width: int
) -> None:
    """y [tokens * used, width], shares [tokens, used], out [tokens, width]."""
    parts = y.float().view(-1, used, width)
    out.copy_((parts * shares[:, :, None]).sum(1))

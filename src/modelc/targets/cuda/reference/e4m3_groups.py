"""Codes in e4m3 that share a scale in groups of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

LARGEST = 448.0


def store_groups(
    values: torch.Tensor,
    static_scale: torch.Tensor | None,
    codes: torch.Tensor,
    scales: torch.Tensor | None,
    group: int,
) -> None:
    """values and codes [tokens, width]; scales [tokens, width / group], or [tokens] of one group,
    where no static one is given."""
    import torch

    grouped = values.float().reshape(len(values), -1, group)
    if static_scale is None:
        largest = grouped.abs().amax(-1)
        steps = torch.where(largest > 0, largest / LARGEST, 1.0)
        assert scales is not None
        scales.view(steps.shape).copy_(steps)
        quotients = grouped / steps[..., None]
    else:
        quotients = grouped / static_scale
    codes.copy_(quotients.flatten(-2).clamp(-LARGEST, LARGEST).to(codes.dtype))

"""The norm, rounded, and its codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.e4m3_groups import store_groups
from modelc.targets.cuda.reference.rms_norm import rms_norm

if TYPE_CHECKING:
    import torch


def rms_norm_fp8(
    *,
    x: torch.Tensor,
    weight: torch.Tensor,
    static_scale: torch.Tensor | None,
    out: torch.Tensor | None,
    codes: torch.Tensor,
    scales: torch.Tensor | None,
    width: int,
    epsilon: float,
    group: int,
) -> None:
    """x, out and codes [tokens, width], weight [width], static_scale [1],
    scales [tokens, width / group]."""
    normed = x.new_empty(x.shape) if out is None else out
    rms_norm(x=x, weight=weight, out=normed, width=width, epsilon=epsilon)
    store_groups(normed, static_scale, codes, scales, group)

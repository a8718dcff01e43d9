"""x + residual, rounded, and the codes of its norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.rms_norm_fp8 import rms_norm_fp8

if TYPE_CHECKING:
    import torch


def add_rms_norm_fp8(
    *,
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    total: torch.Tensor,
    static_scale: torch.Tensor | None,
    out: torch.Tensor | None,
    codes: torch.Tensor,
    scales: torch.Tensor | None,
    width: int,
    epsilon: float,
    group: int,
) -> None:
    """x, residual, total, out and codes [tokens, width], weight [width], static_scale [1],
    scales [tokens, width / group]."""
    total.copy_(x.float() + residual.float())
    rms_norm_fp8(
        x=total,
        weight=weight,
        static_scale=static_scale,
        out=out,
        codes=codes,
        scales=scales,
        width=width,
        epsilon=epsilon,
        group=group,
    )

"""Activations in e4m3, with a scale for each group of a token's values."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def quantise_fp8(
    *,
    x: torch.Tensor,
    static_scale: torch.Tensor | None,
    out: torch.Tensor,
    scales: torch.Tensor,
    width: int,
    group: int,
) -> None:
    """x and out [tokens, width], scales [tokens, ceil(width / group)]; rows that lie side by side
    may be one."""
    x, out = x.view(-1, width), out.view(-1, width)
    scales = scales.view(len(x), -1)
    for place in range(scales.shape[1]):
        part = slice(place * group, place * group + group)
        values = x[:, part].float()
        if static_scale is None:
            scale = values.abs().amax(-1) / 448
            scale[scale == 0] = 1.0
        else:
            scale = static_scale.expand(len(x))
        scales[:, place] = scale
        out[:, part] = (values / scale.unsqueeze(-1)).clamp(-448, 448).to(out.dtype)

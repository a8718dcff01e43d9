"""What linear references end with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def write_outputs(
    out: torch.Tensor, sums: torch.Tensor, bias: torch.Tensor | None, activation: str
) -> None:
    """Write float32 sums [tokens, N or 2 * N] into out [tokens, N]: bias added, gate and up
    joined."""
    from torch.nn.functional import gelu, silu

    if bias is not None:
        sums = sums + bias
    if activation == "none":
        out.copy_(sums)
        return
    gate, up = sums.chunk(2, -1)
    tanh = "tanh" if activation == "gelu_tanh" else "none"
    out.copy_((silu(gate) if activation == "silu" else gelu(gate, approximate=tanh)) * up)

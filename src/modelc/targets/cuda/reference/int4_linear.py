"""x @ w.T for weights of 4 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelc.targets.cuda.reference.int4_values import int4_values
from modelc.targets.cuda.reference.linear_outputs import write_outputs

if TYPE_CHECKING:
    import torch


def int4_linear(
    *,
    x: torch.Tensor,
    codes: torch.Tensor,
    scales: torch.Tensor,
    zeros: torch.Tensor | None,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    N: int,
    K: int,
    activation: str,
    group: int,
) -> None:
    """x [tokens, K], out [tokens, N]; the weight as in `int4_values`, rounded to what x is."""
    w = int4_values(codes, scales, zeros, group).to(x.dtype).float()
    write_outputs(out, x.float() @ w.T, bias, activation)

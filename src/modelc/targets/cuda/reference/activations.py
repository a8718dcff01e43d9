"""Activations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def activated(x: torch.Tensor, activation: str) -> torch.Tensor:
    """Raises KeyError if there is no such activation."""
    from torch.nn import functional

    table: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "silu": functional.silu,
        "gelu": functional.gelu,
        "gelu_tanh": lambda values: functional.gelu(values, approximate="tanh"),
    }
    return table[activation](x)

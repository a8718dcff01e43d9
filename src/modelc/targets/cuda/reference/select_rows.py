"""Rows by index."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def select_rows(*, x: torch.Tensor, wanted: torch.Tensor, out: torch.Tensor, width: int) -> None:
    """x [tokens, width], wanted [rows], out [rows, width]: zeros where there is no such token."""
    for row, token in enumerate(wanted.tolist()):
        out[row] = x[token] if 0 <= token < len(x) else 0

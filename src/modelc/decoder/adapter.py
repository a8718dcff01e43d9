"""LoRA adapters: low-rank products added to linear layers (https://arxiv.org/abs/2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modelc.ir.stored import StoredMatrix


@dataclass(frozen=True)
class LowRank:
    """What an adapter adds to a linear layer: scale * x @ down.T @ up.T.

    Attributes:
        down: [rank, in].
        up: [out, rank].
    """

    down: StoredMatrix
    up: StoredMatrix
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]


@dataclass(frozen=True)
class Adapter:
    """What it adds to each linear layer, by module ("model.layers.0.self_attn.q_proj")."""

    name: str
    layers: Mapping[str, LowRank]

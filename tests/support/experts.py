"""Pairs, weights and rows that the kernels of experts are tried with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from modelc.targets.cuda.kernel import Constants
from modelc.targets.cuda.rows.experts import padded_extent, tiles_extent

Given = Mapping[str, torch.Tensor | None]


def chosen(tokens: int, used: int, experts: int, how: str = "random") -> torch.Tensor:
    """Distinct experts for each token; `same`: the same for all, the last ones."""
    if how == "same":
        return torch.arange(experts - used, experts, dtype=torch.int32).repeat(tokens, 1)
    return torch.stack([torch.randperm(experts)[:used] for _ in range(tokens)]).int()


def empty_order(tokens: int, constants: Constants) -> dict[str, torch.Tensor]:
    """What `group_pairs` writes, filled with what must not be left."""
    shape = [int(constants[name]) for name in ("used", "experts", "block")]
    return {
        "order": torch.full((padded_extent(*shape).of({"tokens": tokens}),), 77, dtype=torch.int32),
        "tile_expert": torch.full(
            (tiles_extent(*shape).of({"tokens": tokens}),), 77, dtype=torch.int32
        ),
    }


def plain_experts(
    x: torch.Tensor, weights: torch.Tensor, ids: torch.Tensor, constants: Constants
) -> torch.Tensor:
    """Every expert's product with the rows that chose it, in float32: [pairs, N].

    Args:
        x: [tokens, K], or [pairs, K] if the input isn't shared.
        weights: [experts, N or 2N, K].
    """
    used = ids.shape[1]
    out = torch.full((ids.numel(), int(constants["N"])), torch.nan)
    activations: dict[Any, Any] = {
        "silu": functional.silu, "gelu": functional.gelu,
        "gelu_tanh": lambda gate: functional.gelu(gate, approximate="tanh"),
    }  # fmt: skip
    for expert, weight in enumerate(weights.float()):
        pairs = (ids.flatten() == expert).nonzero().flatten()
        rows = x.float()[pairs // used if constants["shared_input"] else pairs]
        result = functional.linear(rows, weight)
        if constants["activation"] != "none":
            gate, up = result.chunk(2, -1)
            result = activations[constants["activation"]](gate) * up
        out[pairs] = result
    return out

"""What the references of experts share: each pair's row times its expert's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def each_pair(
    rows: torch.Tensor, weights: torch.Tensor, expert_of_pair: torch.Tensor, activation: str
) -> torch.Tensor:
    """Return [pairs, N] in float32.

    Args:
        rows: [pairs, K].
        weights: [experts, N or 2N, K]: with an activation the gate's rows, then up's.
        expert_of_pair: [pairs].
    """
    import torch
    from torch.nn import functional

    results = []
    for row, expert in zip(rows.float(), expert_of_pair.tolist(), strict=True):
        result = weights[expert].float() @ row
        if activation != "none":
            gate, up = result.chunk(2)
            if activation == "silu":
                result = functional.silu(gate) * up
            else:
                tanh = "tanh" if activation == "gelu_tanh" else "none"
                result = functional.gelu(gate, approximate=tanh) * up
        results.append(result)
    return torch.stack(results)


def pair_rows(x: torch.Tensor, used: int, shared_input: bool) -> torch.Tensor:
    """Return the row of x that each pair takes."""
    return x.repeat_interleave(used, 0) if shared_input else x


def experts_in_order(
    order: torch.Tensor, tile_expert: torch.Tensor, block: int, pairs: int
) -> torch.Tensor:
    """Return each pair's expert, from the order of `group_pairs`."""
    experts = tile_expert.repeat_interleave(block)
    result = tile_expert.new_empty(pairs)
    result[order[order >= 0].long()] = experts[order >= 0]
    return result


def decoded_int4(
    codes: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor | None, group: int
) -> torch.Tensor:
    """Return [rows, K]: in each group of inputs the low nibbles, then the high ones."""
    import torch

    packed = codes.view(codes.shape[0], -1, group // 2)
    values = torch.cat([packed & 15, packed >> 4], -1).float()
    zero = 8.0 if zeros is None else zeros.float()[:, :, None]
    return ((values - zero) * scales.float()[:, :, None]).flatten(1)


def scaled_blocks(w: torch.Tensor, scales: torch.Tensor, height: int) -> torch.Tensor:
    """Return [experts, height, K] of e4m3 with a scale for each 128 x 128 of each expert."""
    w = w.float().view(-1, height, w.shape[-1])
    scales = scales.view(len(w), -1, scales.shape[-1])
    spread = scales.repeat_interleave(128, 1).repeat_interleave(128, 2)
    return w * spread[:, : w.shape[1], : w.shape[2]]


def scaled_row_blocks(x: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """Return [rows, K] of e4m3 with a scale for each 128 of a row."""
    return x.float() * scales.repeat_interleave(128, 1)[:, : x.shape[1]]

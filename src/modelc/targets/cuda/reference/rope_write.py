"""Norms and rotation of queries and keys; keys and values go into the paged cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def rope_write(
    *,
    qkv: torch.Tensor,
    query_norm: torch.Tensor | None,
    key_norm: torch.Tensor | None,
    cos: torch.Tensor,
    sin: torch.Tensor,
    positions: torch.Tensor,
    slots: torch.Tensor,
    key_scale: torch.Tensor | None,
    value_scale: torch.Tensor | None,
    queries: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    heads: int,
    kv_heads: int,
    head_dim: int,
    rotary: int,
    page: int,
    epsilon: float,
) -> None:
    """qkv [tokens, (heads + 2 * kv_heads) * head_dim], queries [tokens, heads * head_dim], caches
    [pages, kv_heads, page, head_dim] or their bytes; cos and sin [context, rotary / 2].

    A token whose slot is -1 is taken to be at position 0, and written to no cache.
    """
    numbers = qkv.float().view(len(qkv), -1, head_dim)
    query, key = numbers[:, :heads], numbers[:, heads : heads + kv_heads]
    value = numbers[:, heads + kv_heads :]
    places = positions.long().where(slots >= 0, 0)
    query = _rotated(_normed(query, query_norm, epsilon), cos[places], sin[places])
    key = _rotated(_normed(key, key_norm, epsilon), cos[places], sin[places])
    queries.copy_(query.flatten(1))
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            _write(key_cache[slot // page, :, slot % page], key[token], key_scale)
            _write(value_cache[slot // page, :, slot % page], value[token], value_scale)


def _normed(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float) -> torch.Tensor:
    if weight is None:
        return x
    return x * x.square().mean(-1, keepdim=True).add(epsilon).rsqrt() * weight


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x [tokens, heads, head_dim], cos and sin [tokens, half]: what is beyond both halves stays."""
    import torch

    half = cos.shape[-1]
    low, high, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    c, s = cos[:, None], sin[:, None]
    return torch.cat([low * c - high * s, high * c + low * s, rest], -1)


def _write(rows: torch.Tensor, numbers: torch.Tensor, scale: torch.Tensor | None) -> None:
    """Write [kv_heads, head_dim] into rows of a cache."""
    import torch

    if scale is not None:
        numbers = numbers / scale[:, None]
    if rows.dtype in (torch.uint8, torch.float8_e4m3fn):
        codes = numbers.clamp(-448, 448).to(torch.float8_e4m3fn)
        rows.view(torch.uint8).copy_(codes.view(torch.uint8))
    else:
        rows.copy_(numbers)

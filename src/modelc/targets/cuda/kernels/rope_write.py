"""Rotates queries and keys by their positions, and writes keys and values into the paged cache."""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.e4m3 import narrowed


@triton.jit
def rope_write(
    qkv, query_norm, key_norm, cos, sin, positions, slots, key_scale, value_scale,
    queries, key_cache, value_cache,
    heads: tl.constexpr, kv_heads: tl.constexpr, head_dim: tl.constexpr, rotary: tl.constexpr,
    page: tl.constexpr, epsilon: tl.constexpr,
    HEADS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    # A program has HEADS heads, all queries, all keys or all values.
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    slot = tl.load(slots + token).to(tl.int64)
    # Where nothing is written the position may be anything.
    position = tl.where(slot < 0, 0, tl.load(positions + token)).to(tl.int64)
    angles = position * (rotary // 2)
    source = qkv + token * ((heads + 2 * kv_heads) * head_dim)
    query_blocks: tl.constexpr = (heads + HEADS - 1) // HEADS
    key_blocks: tl.constexpr = (kv_heads + HEADS - 1) // HEADS
    if block < query_blocks:
        first = block * HEADS
        low, high, rest = _loaded(source, first, heads, head_dim, rotary, HEADS, HALF, REST)
        low, high, rest = _normed(
            low, high, rest, query_norm, head_dim, rotary, epsilon, HALF, REST
        )
        low, high = _rotated(low, high, cos + angles, sin + angles, rotary, HALF)
        target = queries + token * (heads * head_dim)
        _stored(
            target, low, high, rest, first, heads, head_dim, head_dim, rotary, HEADS, HALF, REST
        )
    elif slot >= 0:
        row = (slot // page) * (kv_heads * page) + slot % page
        if block < query_blocks + key_blocks:
            first = (block - query_blocks) * HEADS
            keys = source + heads * head_dim
            low, high, rest = _loaded(keys, first, kv_heads, head_dim, rotary, HEADS, HALF, REST)
            low, high, rest = _normed(
                low, high, rest, key_norm, head_dim, rotary, epsilon, HALF, REST
            )
            low, high = _rotated(low, high, cos + angles, sin + angles, rotary, HALF)
            low, high, rest = _scaled(low, high, rest, key_scale, first, kv_heads, HEADS)
            _stored(
                key_cache + row * head_dim, low, high, rest, first,
                kv_heads, page * head_dim, head_dim, rotary, HEADS, HALF, REST,
            )  # fmt: skip
        else:
            first = (block - query_blocks - key_blocks) * HEADS
            values = source + (heads + kv_heads) * head_dim
            low, high, rest = _loaded(values, first, kv_heads, head_dim, rotary, HEADS, HALF, REST)
            low, high, rest = _scaled(low, high, rest, value_scale, first, kv_heads, HEADS)
            _stored(
                value_cache + row * head_dim, low, high, rest, first,
                kv_heads, page * head_dim, head_dim, rotary, HEADS, HALF, REST,
            )  # fmt: skip


# Heads lie in three parts: both halves of what is rotated, and the rest (none: REST is 1).


@triton.jit
def _loaded(
    source, first, count: tl.constexpr, head_dim: tl.constexpr, rotary: tl.constexpr,
    HEADS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    half: tl.constexpr = rotary // 2
    heads = first + tl.arange(0, HEADS)[:, None]
    columns = tl.arange(0, HALF)[None, :]
    inside = (heads < count) & (columns < half)
    lows = source + heads * head_dim + columns
    low = tl.load(lows, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(lows + half, mask=inside, other=0.0).to(tl.float32)
    columns = rotary + tl.arange(0, REST)[None, :]
    inside = (heads < count) & (columns < head_dim)
    rest = tl.load(source + heads * head_dim + columns, mask=inside, other=0.0).to(tl.float32)
    return low, high, rest


@triton.jit
def _normed(
    low, high, rest, weight, head_dim: tl.constexpr, rotary: tl.constexpr, epsilon: tl.constexpr,
    HALF: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    if weight is not None:
        half: tl.constexpr = rotary // 2
        squares = tl.sum(low * low + high * high, 1) + tl.sum(rest * rest, 1)
        gain = tl.rsqrt(squares / head_dim + epsilon)[:, None]
        columns = tl.arange(0, HALF)
        low = low * gain * tl.load(weight + columns, mask=columns < half, other=0.0)[None, :]
        high = (
            high * gain * tl.load(weight + half + columns, mask=columns < half, other=0.0)[None, :]
        )
        columns = rotary + tl.arange(0, REST)
        rest = rest * gain * tl.load(weight + columns, mask=columns < head_dim, other=0.0)[None, :]
    return low, high, rest


@triton.jit
def _rotated(low, high, cos, sin, rotary: tl.constexpr, HALF: tl.constexpr):
    columns = tl.arange(0, HALF)
    c = tl.load(cos + columns, mask=columns < rotary // 2, other=0.0)[None, :]
    s = tl.load(sin + columns, mask=columns < rotary // 2, other=0.0)[None, :]
    return low * c - high * s, high * c + low * s


@triton.jit
def _scaled(low, high, rest, scale, first, count: tl.constexpr, HEADS: tl.constexpr):
    if scale is not None:
        heads = first + tl.arange(0, HEADS)
        divisor = tl.load(scale + heads, mask=heads < count, other=1.0)[:, None]
        low = low / divisor
        high = high / divisor
        rest = rest / divisor
    return low, high, rest


@triton.jit
def _stored(
    target, low, high, rest, first, count: tl.constexpr, stride: tl.constexpr,
    head_dim: tl.constexpr, rotary: tl.constexpr,
    HEADS: tl.constexpr, HALF: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    type: tl.constexpr = target.dtype.element_ty
    half: tl.constexpr = rotary // 2
    heads = first + tl.arange(0, HEADS)[:, None]
    columns = tl.arange(0, HALF)[None, :]
    inside = (heads < count) & (columns < half)
    lows = target + heads * stride + columns
    tl.store(lows, narrowed(low, type), mask=inside)
    tl.store(lows + half, narrowed(high, type), mask=inside)
    columns = rotary + tl.arange(0, REST)[None, :]
    inside = (heads < count) & (columns < head_dim)
    tl.store(target + heads * stride + columns, narrowed(rest, type), mask=inside)

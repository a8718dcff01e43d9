"""The loop of attention over a paged cache: online softmax, block of keys by block of keys.

After FlashAttention-2 (Dao, 2023). Scores are in base 2: logits times log2(e).
"""

from __future__ import annotations

import triton
import triton.language as tl

from modelc.targets.cuda.kernels.e4m3 import UP, halves, widened

LOG2E = tl.constexpr(1.4426950408889634)
# Of a score that is masked. Finite, so that rows that have seen nothing else make no NaN: the
# weights that it gave them vanish when the first score that counts comes.
MASKED = tl.constexpr(-1e30)


@triton.jit
def attend(
    query, places, sums, odd, top, total, start, stop,
    table, key_cache, value_cache, kv_head, key_gain,
    kv_heads: tl.constexpr, head_dim: tl.constexpr, page: tl.constexpr, scale: tl.constexpr,
    softcap: tl.constexpr, window: tl.constexpr,
    EDGE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Let query rows see keys start..stop-1 of a sequence.

    Args:
        query: act [rows, BLOCK_D], 0 beyond head_dim.
        places: i32 [rows], the positions of the queries.
        sums, odd, top, total: fp32, what `nothing` gives, or this did; returned as they are then.
        start: a multiple of BLOCK_N, or of `page` if that is less.
        table: i32 pointer, to the pages of the sequence.
        key_gain: what keys in the cache are to be multiplied with.
        EDGE: some keys are not seen by all rows. Otherwise none is masked, and stop - start must
            be a multiple of BLOCK_N.
    """
    offsets = tl.arange(0, BLOCK_N)
    # Page numbers are loaded one step ahead: keys needn't wait for them.
    number = _numbers(table, start, stop, page, BLOCK_N)
    for first in tl.range(start, stop, BLOCK_N):
        current = number
        number = _numbers(table, first + BLOCK_N, stop, page, BLOCK_N)
        keys = first + offsets
        exists = keys[:, None] < stop
        key = _tile(
            key_cache, current, first, kv_head, exists,
            kv_heads, head_dim, page, EDGE, BLOCK_N, BLOCK_D,
        )  # fmt: skip
        scores = tl.dot(query, tl.trans(widened(key, query.dtype)))
        if softcap > 0:
            # tanh(x) = 1 - 2 / (exp(2x) + 1), which is right where exp overflows, too.
            growth = tl.exp2(scores * (key_gain * (scale * 2 * LOG2E / softcap)))
            scores = (softcap * LOG2E) * (1 - 2 / (growth + 1))
            gain = 1.0
        else:
            gain = key_gain * (scale * LOG2E)
        if EDGE:
            seen = (keys[None, :] <= places[:, None]) & (keys[None, :] < stop)
            if window > 0:
                seen = seen & (keys[None, :] > places[:, None] - window)
            scores = tl.where(seen, scores, MASKED)
        higher = tl.maximum(top, tl.max(scores, 1) * gain)
        weights = tl.exp2(scores * gain - higher[:, None])
        shrink = tl.exp2(top - higher)
        total = total * shrink + tl.sum(weights, 1)
        if value_cache.dtype.element_ty.primitive_bitwidth == 8:
            words = _tile(
                value_cache.to(tl.pointer_type(tl.uint16)), current, first, kv_head, exists,
                kv_heads, head_dim // 2, page, EDGE, BLOCK_N, BLOCK_D // 2,
            )  # fmt: skip
            low, high = halves(words)
            sums = tl.dot(weights.to(tl.float16), low, sums * shrink[:, None])
            odd = tl.dot(weights.to(tl.float16), high, odd * shrink[:, None])
        else:
            value = _tile(
                value_cache, current, first, kv_head, exists,
                kv_heads, head_dim, page, EDGE, BLOCK_N, BLOCK_D,
            )  # fmt: skip
            sums = tl.dot(weights.to(query.dtype), value, sums * shrink[:, None])
        top = higher
    return sums, odd, top, total


@triton.jit
def nothing(value_cache, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr):
    """What rows know that have seen no key: sums of weighted values [BLOCK_M, BLOCK_D], the
    greatest score, and the sum of the weights, [BLOCK_M].

    Where values are codes, sums are those of even columns, and of odd ones: a tensor core takes
    pairs of rows, and of 16-bit words it can load them transposed, of bytes it can't.
    """
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    if value_cache.dtype.element_ty.primitive_bitwidth == 8:
        sums = tl.zeros((BLOCK_M, BLOCK_D // 2), tl.float32)
        odd = sums
    else:
        sums = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
        odd = top  # of no use
    return sums, odd, top, total


@triton.jit
def values_of(sums, odd, value_cache, value_scale, kv_head):
    """Sums with their columns in order, of what codes stand for."""
    gain = gain_of(value_scale, kv_head)
    if value_cache.dtype.element_ty.primitive_bitwidth == 8:
        sums = tl.interleave(sums, odd) * UP
    return sums * gain


@triton.jit
def gain_of(scales, kv_head):
    """What the cache of a head is to be multiplied with."""
    gain = 1.0
    if scales is not None:
        gain = tl.load(scales + kv_head)
    return gain


@triton.jit
def _numbers(table, first, stop, page: tl.constexpr, BLOCK_N: tl.constexpr):
    """Page numbers of BLOCK_N positions: one, if they lie in one page."""
    positions = first
    if page < BLOCK_N:
        positions = first + tl.arange(0, BLOCK_N)
    return tl.load(table + positions // page, mask=positions < stop, other=0)


@triton.jit
def _tile(
    cache, number, first, kv_head, exists,
    kv_heads: tl.constexpr, width: tl.constexpr, page: tl.constexpr,
    EDGE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Load rows of the cache, [BLOCK_N, BLOCK_W]. Those that don't exist must be 0: memory that
    nobody has written may be NaN, and 0 times NaN is NaN."""
    offsets = tl.arange(0, BLOCK_N)
    columns = tl.arange(0, BLOCK_W)[None, :]
    part = number.to(tl.int64) * kv_heads + kv_head
    if page >= BLOCK_N:
        cells = cache + (part * page + first % page) * width
        cells += offsets[:, None] * width + columns
    else:
        rows = part * page + (first + offsets) % page
        cells = cache + rows[:, None] * width + columns
    if EDGE and width < BLOCK_W:
        tile = tl.load(cells, mask=exists & (columns < width), other=0.0)
    elif EDGE:
        tile = tl.load(cells, mask=exists, other=0.0)
    elif width < BLOCK_W:
        tile = tl.load(cells, mask=columns < width, other=0.0)
    else:
        tile = tl.load(cells)
    return tile

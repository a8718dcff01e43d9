"""Reordering of 4-bit codes.

ggml keeps the first half of a run of codes in the low nibbles of its bytes and the second half
in the high nibbles; MatMulNBits keeps neighbours in one byte, low nibble first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def interleave_halves(halves: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ggml's split halves to neighbouring pairs.

    halves  uint8 [..., n]: byte i holds code i (low nibble) and code i + n (high nibble)
    returns uint8 [..., n]: byte j holds code 2 j (low nibble) and code 2 j + 1 (high nibble)

    Two neighbouring bytes hold the nibbles a, A, b, B. Swapping the middle two (in 64-bit words,
    four pairs at a time) gives the bytes ab and AB: one of the first half, one of the second.
    """
    words = np.array(halves, order="C").view(np.uint64)
    swap = words >> np.uint64(4)
    swap ^= words
    swap &= np.uint64(0x00F0_00F0_00F0_00F0)
    words ^= swap
    swap <<= np.uint64(4)
    words ^= swap
    pairs = words.view(np.uint8)
    half = halves.shape[-1] // 2
    out = np.empty_like(pairs)
    out[..., :half] = pairs[..., 0::2]
    out[..., half:] = pairs[..., 1::2]
    return out


def expand_nibbles(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [..., n] with two codes a byte, low nibble first, to one code a byte [..., 2 n]."""
    out = np.empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.uint8)
    np.bitwise_and(packed, 0xF, out=out[..., 0::2])
    np.right_shift(packed, 4, out=out[..., 1::2])
    return out


def split_halves(halves: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ggml's split halves [..., n] to one code a byte [..., 2 n], in order."""
    n = halves.shape[-1]
    out = np.empty((*halves.shape[:-1], 2 * n), np.uint8)
    np.bitwise_and(halves, 0xF, out=out[..., :n])
    np.right_shift(halves, 4, out=out[..., n:])
    return out


def pack_nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One code a byte [..., 2 n] to two a byte [..., n], low nibble first."""
    words = np.ascontiguousarray(codes).view(np.uint16)
    return ((words >> np.uint16(4)) | words).astype(np.uint8)
